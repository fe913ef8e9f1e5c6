/* The commands of the program: one row each in the table of commands.c, one file each (cmd_NAME.c).
 *
 * A new command: write cmd_NAME.c with `status_t cmd_NAME(struct launch_context *, int, char **)`, declare it
 * below, add its row to the table. A command returns a status with its message kept (common/status.h); it
 * never ends the process. What a user asked to see goes to standard output, records of work to the log. */
#ifndef LAUNCHER_COMMANDS_H
#define LAUNCHER_COMMANDS_H

#include "common/status.h"

#include <stdbool.h>

struct comm; /* comm/comm.h */

/* What main found out before the command runs. */
struct launch_context {
    int rank, n_ranks;             /* 0 of 1 without MPI */
    int local_rank, n_local_ranks; /* among the ranks of this host */
    const char *host;
    struct comm *world;  /* NULL where MPI was not started */
    const char *program; /* argv[0] */
};

enum command_mpi {
    COMMAND_MPI_NEVER,         /* works on a login node; under mpirun only rank 0 does anything */
    COMMAND_MPI_ALWAYS,        /* started alone it is one rank */
    COMMAND_MPI_WHEN_LAUNCHED, /* started where mpirun or srun made this process, else alone without MPI */
};

/* One option, as --help, the manual pages and the completion of shells show it. That a command takes exactly
 * the options of its row is held by tests/launcher/manual.sh. */
struct command_option {
    const char *name; /* "--batch" */
    const char
        *value; /* "N", "FILE", "DIR", "text|csv|latex"; a "..." at the end: one or more; NULL: a flag */
    const char *help;
    const char *of; /* the words of `first` that take it, with blanks between; NULL: all */
};

/* A word that a command's first argument may be. */
struct command_word {
    const char *name, *help;
};

struct command {
    const char *name;
    const char *usage; /* after "marrs_dist ": "plan CONFIG [key=value ...]" */
    const char *help;  /* one line */
    enum command_mpi needs_mpi;
    /* argv[0] is the command's name. Collective over context->world where that is not NULL. */
    status_t (*run)(struct launch_context *context, int argc, char **argv);
    const char *operands; /* what stands outside options: words of CONFIG KEY RUN FILE, or NULL */
    const struct command_option *options; /* the entry past the last has name NULL; NULL: none */
    const struct command_word *first;     /* the same */
    const char *notes;                    /* paragraphs, each ending in a newline, or NULL */
};

/* The table; the entry past the last has name NULL. */
extern const struct command commands[];

/* The command of that name, or NULL. */
const struct command *command_find(const char *name);

/* The command or option whose name is nearest by edit distance, or NULL where none is near. */
const char *command_nearest(const char *name);

/* STATUS_USAGE with a message that names the word, and the nearest of `known` (NULL-terminated) where one is
 * near. */
status_t command_unknown_option(const char *command, const char *word, const char *const *known);

status_t cmd_config(struct launch_context *context, int argc, char **argv);
status_t cmd_export(struct launch_context *context, int argc, char **argv);
status_t cmd_train(struct launch_context *context, int argc, char **argv);
status_t cmd_evaluate(struct launch_context *context, int argc, char **argv);
status_t cmd_predict(struct launch_context *context, int argc, char **argv);
status_t cmd_report(struct launch_context *context, int argc, char **argv);
status_t cmd_watch(struct launch_context *context, int argc, char **argv);
status_t cmd_sweep(struct launch_context *context, int argc, char **argv);
status_t cmd_plan(struct launch_context *context, int argc, char **argv);
status_t cmd_lists(struct launch_context *context, int argc, char **argv);
status_t cmd_pack(struct launch_context *context, int argc, char **argv);
status_t cmd_doctor(struct launch_context *context, int argc, char **argv);
status_t cmd_inspect(struct launch_context *context, int argc, char **argv);
status_t cmd_completion(struct launch_context *context, int argc, char **argv);
status_t cmd_manual(struct launch_context *context, int argc, char **argv);
status_t cmd_bench(struct launch_context *context, int argc, char **argv);
status_t cmd_bench_comm(struct launch_context *context, int argc, char **argv); /* argv[0] is "comm" */
status_t cmd_bench_data(struct launch_context *context, int argc, char **argv); /* argv[0] is "data" */

#endif
