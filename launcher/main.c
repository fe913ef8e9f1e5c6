/* marrs_dist: finds the command, starts MPI where the command needs it, and is the only place that ends the
 * process. */
#include "launcher/command_help.h"
#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/startup.h"
#include "launcher/topology.h"
#include "launcher/version.h"

#include "comm/comm.h"
#include "common/file.h"
#include "common/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_usage(FILE *out) {
    fputs("Semi-supervised domain adaptation: peers co-trained on groups of ranks, then distilled into one "
          "student.\n\n"
          "  marrs_dist                                  the embedded default, configs/digits.yaml\n"
          "  mpirun -np N marrs_dist CONFIG [key=value]  on N ranks\n\ncommands:\n",
          out);
    for (const struct command *c = commands; c->name; c++) fprintf(out, "  %-10s %s\n", c->name, c->help);
    fputs("\noptions: --help, --version, --version=full; marrs_dist COMMAND --help tells more.\n"
          "Exit codes: 0 done, 1 training failed, 64 usage, 65 bad data, 66 missing input, 70 internal, 73 "
          "cannot create,\n"
          "74 input/output, 75 stopped cleanly (run again to go on), 78 bad configuration.\n",
          out);
}

/* A message may have several lines (all faults of a configuration): one record each. */
static void print_failure(status_t status, bool shared, const char *message) {
    const log_level_t level = status == STATUS_STOPPED ? LOG_INFO : LOG_ERROR;
    if (message[0] == '\0') message = status_text(status);
    while (*message) {
        const int n = (int)strcspn(message, "\n");
        if (shared)
            log_global(level, "%.*s", n, message);
        else
            log_local(level, "%.*s", n, message);
        message += n + (message[n] == '\n');
    }
    if (log_get_level() >= LOG_DEBUG) log_local(LOG_DEBUG, "%s at %s", status_name(status), status_where());
}

/* ---- which command
 * ----------------------------------------------------------------------------------------- */

/* The command that a start without arguments, or with a configuration alone, means. */
static const struct command *default_command(void) {
    const struct command *train = command_find("train");
    return train ? train : command_find("plan");
}

static bool looks_like_config(const char *word) {
    const char *dot = strrchr(word, '.');
    return strchr(word, '/') || strchr(word, '=') ||
           (dot && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0)) || file_exists(word);
}

/* *first: index in argv of the command's name (its arguments follow); 0 where a default command takes them
 * all. A command's name means the command, whatever files of that name there are. */
static status_t choose_command(int argc, char **argv, const struct command **command, int *first) {
    *first = 1;
    *command = argc > 1 ? command_find(argv[1]) : NULL;
    if (*command) return STATUS_OK;
    *first = 0;
    *command = default_command();
    if (argc < 2 || looks_like_config(argv[1])) return STATUS_OK;
    const char *nearest = command_nearest(argv[1]);
    return FAIL(STATUS_USAGE, "unknown %s %s%s%s (marrs_dist --help)",
                argv[1][0] == '-' ? "option" : "command", argv[1], nearest ? "; nearest: " : "",
                nearest ? nearest : "");
}

/* --help and --version, of the program and of commands; true where that was all. */
static bool answer(int argc, char **argv) {
    if (argc < 2) return false;
    const bool silent = startup_environment_rank() != 0; /* one answer under mpirun */
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        if (!silent) print_usage(stdout);
        return true;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "--version=full") == 0) {
        if (!silent && strcmp(word, "--version") == 0) version_print(stdout);
        if (!silent && strcmp(word, "--version=full") == 0)
            version_print_full(comm_library_built(), comm_library(), comm_library_symbol(), stdout);
        return true;
    }
    const struct command *command = command_find(word);
    for (int i = 2; command && i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            if (!silent) command_print_help(command, stdout);
            return true;
        }
    return false;
}

/* ---- running it
 * -------------------------------------------------------------------------------------------- */

/* Threads of this rank, and what may be wrong with the start. */
static status_t prepare(struct launch_context *context) {
    TRY(startup_check_world(context->n_ranks));
    struct topology topology;
    TRY(topology_find(&topology));
    const int n_threads = topology_threads(&topology, context->n_local_ranks);
    topology_set_threads(n_threads);
    int n_hosts = 1;
    for (int r = 0; context->world && r < context->n_ranks; r++)
        if (comm_node(context->world, r) >= n_hosts) n_hosts = comm_node(context->world, r) + 1;
    startup_warn(context, &topology, n_threads, n_hosts);
    return STATUS_OK;
}

static status_t run_alone(const struct command *command, struct launch_context *context, int argc,
                          char **argv) {
    log_set_identity(startup_environment_rank(), 1, context->host);
    if (startup_environment_rank() != 0) return STATUS_OK;
    TRY(prepare(context));
    return command->run(context, argc, argv);
}

/* Agree with the other ranks on what went wrong; the exit code. Does not return where MPI must be aborted. */
static int end_failed(struct comm **world, status_t status) {
    char message[16384];
    snprintf(message, sizeof message, "%s", status_message());
    struct comm_verdict verdict;
    const int rank = comm_rank(*world);
    comm_agree_on_failure(*world, status, message, &verdict);
    const bool shared = verdict.reached && verdict.shared;
    if (shared || !verdict.reached || verdict.first_rank == rank) print_failure(status, shared, message);
    if (shared && comm_finish(world) == STATUS_OK) return status_exit_code(status);
    comm_abort(status_exit_code(verdict.reached ? verdict.status : status));
}

static int run_with_mpi(const struct command *command, struct launch_context *context, int argc, char **argv,
                        int *all_argc, char ***all_argv) {
    struct comm *world = NULL;
    status_t status = comm_start(all_argc, all_argv, &world);
    if (status != STATUS_OK) {
        print_failure(status, false, status_message());
        comm_abort(status_exit_code(status));
    }
    context->world = world;
    context->rank = comm_rank(world);
    context->n_ranks = comm_size(world);
    context->local_rank = comm_local_rank(world);
    context->n_local_ranks = comm_local_size(world);
    context->host = comm_hostname(world, context->rank);
    if (context->n_ranks == 1)
        log_set_identity(startup_environment_rank(), 1, context->host); /* one voice of N singletons */
    status = prepare(context);
    if (status == STATUS_OK) status = command->run(context, argc, argv);
    if (fflush(stdout) != 0 && status == STATUS_OK)
        status = FAIL(STATUS_IO, "cannot write to standard output");
    if (status == STATUS_OK) status = comm_finish(&world); /* fails where another rank has failed */
    return status == STATUS_OK ? 0 : end_failed(&world, status);
}

int main(int argc, char **argv) {
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    log_set_identity(startup_environment_rank(), 1, host);
    signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of a write, not the end of a run */
    if (answer(argc, argv)) return fflush(stdout) == 0 ? 0 : status_exit_code(STATUS_IO);
    const struct command *command;
    int first;
    status_t status = choose_command(argc, argv, &command, &first);
    struct launch_context context = {.n_ranks = 1, .n_local_ranks = 1, .host = host, .program = argv[0]};
    if (status == STATUS_OK) {
        const bool mpi = command->needs_mpi == COMMAND_MPI_ALWAYS ||
                         (command->needs_mpi == COMMAND_MPI_WHEN_LAUNCHED && startup_was_launched());
        if (mpi) return run_with_mpi(command, &context, argc - first, argv + first, &argc, &argv);
        status = run_alone(command, &context, argc - first, argv + first);
        if (fflush(stdout) != 0 && status == STATUS_OK)
            status = FAIL(STATUS_IO, "cannot write to standard output");
    }
    if (status != STATUS_OK) print_failure(status, true, status_message());
    return status_exit_code(status);
}
