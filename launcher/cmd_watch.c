#include "launcher/commands.h"
#include "launcher/watch.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct watch_options {
    const char *folder;
    bool once, ascii;
};

static status_t parse(int argc, char **argv, struct watch_options *o) {
    static const char *const known[] = {"--once", "--ascii", "--help", NULL};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--once") == 0)
            o->once = true;
        else if (strcmp(argv[i], "--ascii") == 0)
            o->ascii = true;
        else if (argv[i][0] == '-')
            return command_unknown_option("watch", argv[i], known);
        else if (o->folder)
            return FAIL(STATUS_USAGE, "watch: one run at a time, not also %s", argv[i]);
        else
            o->folder = argv[i];
    }
    CHECK(o->folder, STATUS_USAGE, "watch: which run? marrs_dist watch RUN");
    return STATUS_OK;
}

/* Does the user's locale (LC_ALL, LC_CTYPE, LANG) say UTF-8? */
static bool locale_is_utf8(void) {
    const locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (locale == (locale_t)0) return false;
    const bool utf8 = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    freelocale(locale);
    return utf8;
}

static status_t print_once(const struct watch_run *run, bool unicode) {
    struct watch_look look = {.width = 100, .unicode = unicode};
    int height;
    const char *columns = getenv("COLUMNS");
    if (!watch_terminal_size(&look.width, &height) && columns && atoi(columns) > 0)
        look.width = atoi(columns) < 1000 ? atoi(columns) : 1000;
    watch_picture(stdout, run, &look);
    CHECK(fflush(stdout) == 0, STATUS_IO, "cannot write to standard output");
    return STATUS_OK;
}

status_t cmd_watch(struct launch_context *context, int argc, char **argv) {
    (void)context;
    struct watch_options options = {.folder = NULL};
    struct watch_run run;
    TRY(parse(argc, argv, &options));
    TRY(watch_run_open(options.folder, &run));
    const bool unicode = !options.ascii && locale_is_utf8();
    const char *type = getenv("TERM");
    const bool terminal = isatty(STDOUT_FILENO) && type && type[0] && strcmp(type, "dumb") != 0;
    const status_t status =
        options.once || !terminal ? print_once(&run, unicode) : watch_terminal(&run, unicode);
    watch_run_close(&run);
    return status;
}
