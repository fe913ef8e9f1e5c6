/* marrs_dist config: check a configuration, show it in force, list all keys. */
#include "launcher/commands.h"
#include "launcher/config.h"

#include "common/log.h"

#include <stdlib.h>
#include <string.h>

extern char **environ;

status_t cmd_config(struct launch_context *context, int argc, char **argv) {
    static const char *const known[] = {"--print", "--markdown", "--help", NULL};
    (void)context;
    bool print = false;
    const char *path = NULL;
    char *default_path = NULL;
    int n_kept = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--markdown") == 0) {
            config_print_markdown(stdout);
            return STATUS_OK;
        }
        if (strcmp(argv[i], "--print") == 0)
            print = true;
        else if (strncmp(argv[i], "--", 2) == 0)
            return command_unknown_option("config", argv[i], known);
        else if (!path && !strchr(argv[i], '='))
            path = argv[i];
        else
            argv[n_kept++] = argv[i];
    }
    if (!path) TRY(config_default_path(&default_path));
    const struct config_overrides overrides = {
        .n_arguments = n_kept, .arguments = argv, .environment = environ};
    struct settings settings = {.run = NULL};
    status_t status = config_read(path ? path : default_path, &overrides, &settings);
    if (status == STATUS_OK && print) status = config_write(&settings, stdout);
    if (status == STATUS_OK && !print) log_global(LOG_INFO, "%s: good", path ? path : default_path);
    settings_free(&settings);
    free(default_path);
    return status;
}
