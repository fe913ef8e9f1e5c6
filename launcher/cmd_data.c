#include "launcher/cmd_data.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

status_t option_value(int argc, char **argv, int i, const char **out) {
    CHECK(i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0, STATUS_USAGE, "%s: a value is missing after %s",
          argv[0], argv[i]);
    *out = argv[i + 1];
    return STATUS_OK;
}

status_t option_integer(int argc, char **argv, int i, int64_t low, int64_t high, int64_t *out) {
    const char *text;
    TRY(option_value(argc, argv, i, &text));
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    CHECK(!errno && end != text && !*end && value >= low && value <= high, STATUS_USAGE,
          "%s: %s takes an integer from %" PRId64 " to %" PRId64 ", not '%s'", argv[0], argv[i], low, high,
          text);
    *out = value;
    return STATUS_OK;
}

int data_default_threads(const struct launch_context *context) {
    cpu_set_t mine;
    const int online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int n = sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : online;
    if (n >= online && context->n_local_ranks > 1) n /= context->n_local_ranks;
    return n > 1 ? n : 1;
}
