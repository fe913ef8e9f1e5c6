/* marrs_dist watch: what a run's files say of it, as a picture of text.
 *
 * watch_run.c reads the files, whatever the run does meanwhile; watch_picture.c makes the lines;
 * watch_terminal.c shows them. */
#ifndef LAUNCHER_WATCH_H
#define LAUNCHER_WATCH_H

#include "common/status.h"
#include "launcher/run_state.h"
#include "training/report_data.h"
#include "training/settings.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum { WATCH_TAIL = 64 };

struct watch_run {
    const char *folder; /* borrowed */
    struct settings settings;
    struct report_data data; /* records so far, results.json */
    char *metrics_path;
    uint64_t offset; /* behind the last whole line that was read */
    ino_t inode;
    char tail[WATCH_TAIL]; /* the bytes before offset: others there mean that the run went back */
    size_t n_tail;
    bool has_state;
    struct run_state state;
    double now_s;   /* of the last look, since 1970 */
    double wrote_s; /* when metrics.jsonl was written last; NAN: there is none */
};

/* STATUS_MISSING where the folder is no run's; STATUS_BAD_CONFIG where its config.yaml is damaged. Looks
 * once. Release with watch_run_close(), which accepts a zeroed struct. */
status_t watch_run_open(const char *folder, struct watch_run *out);
void watch_run_close(struct watch_run *run);

/* Read what is new. Files that are missing (yet), or cut at the end, are no errors. */
status_t watch_run_look(struct watch_run *run);

/* The stage of the newest record; NULL: there is none. */
const char *watch_run_stage(const struct watch_run *run);

/* Steps that the configuration gives a stage; 0: it does not count any. */
int64_t watch_run_n_steps(const struct watch_run *run, const char *stage);

/* Steps of the stage that have records: that of the newest one, plus one. */
double watch_run_n_done(const struct watch_run *run, const char *stage);

/* Seconds since 1970 of the stage's newest record; NAN: there is none. */
double watch_run_last_s(const struct watch_run *run, const char *stage);

/* Seconds a step, from the times of the newest records, without pauses; NAN: unknown. */
double watch_run_step_s(const struct watch_run *run, const char *stage);

struct watch_look {
    int width, height; /* height 0: as many lines as it takes */
    bool unicode;      /* the terminal shows UTF-8 */
    bool escapes;      /* bold, colours, and each line ends in "erase to the right": for a terminal */
};

/* The picture, from the current line on; with a height, at most that many lines, and no end of line after the
 * last. */
void watch_picture(FILE *out, const struct watch_run *run, const struct watch_look *look);

/* Show the run until q, Ctrl-C or a signal to end, and leave the terminal as it was. Needs a terminal on
 * standard output. */
status_t watch_terminal(struct watch_run *run, bool unicode);

/* Columns and lines of the terminal on standard output; false: none. */
bool watch_terminal_size(int *width, int *height);

#endif
