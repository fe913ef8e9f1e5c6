/* marrs_dist pack: images named by lists -> shards. */
#include "launcher/cmd_data.h"

#include "comm/comm.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "data_shards/pack.h"
#include "data_shards/view.h"

#include <ctype.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { IMAGES_A_SHARD = 10000, MAX_SHARDS = 100000 };

struct pack_arguments {
    struct pack_options options;
    const char **list_paths; /* [n_lists] */
    size_t n_lists, list_capacity;
    bool strict;
};

static status_t parse(struct launch_context *context, int argc, char **argv, struct pack_arguments *a) {
    static const char *const known[] = {"--root",  "--list",   "--out",    "--shards",  "--raw",
                                        "--check", "--domain", "--strict", "--threads", NULL};
    *a = (struct pack_arguments){.options = {.n_threads = data_default_threads(context)}};
    struct pack_options *o = &a->options;
    int64_t number = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "--strict") == 0) {
            a->strict = true;
        } else if (strcmp(word, "--list") == 0) {
            TRY(option_value(argc, argv, i, &word));
            while (i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0) {
                CHECK(memory_grow(&a->list_paths, a->n_lists, &a->list_capacity, sizeof *a->list_paths),
                      STATUS_NO_MEMORY, "out of memory for lists");
                a->list_paths[a->n_lists++] = argv[++i];
            }
        } else if (strcmp(word, "--root") == 0) {
            TRY(option_value(argc, argv, i++, &o->root));
        } else if (strcmp(word, "--out") == 0) {
            TRY(option_value(argc, argv, i++, &o->prefix));
        } else if (strcmp(word, "--domain") == 0) {
            TRY(option_value(argc, argv, i++, &o->domain));
        } else if (strcmp(word, "--shards") == 0) {
            TRY(option_integer(argc, argv, i++, 1, MAX_SHARDS, &o->n_shards));
        } else if (strcmp(word, "--raw") == 0) {
            TRY(option_integer(argc, argv, i++, 1, VIEW_MAX_SIDE, &number));
            o->raw_side = (int32_t)number;
        } else if (strcmp(word, "--threads") == 0) {
            TRY(option_integer(argc, argv, i++, 1, 1024, &number));
            o->n_threads = (int)number;
        } else if (strcmp(word, "--check") == 0) {
            TRY(option_value(argc, argv, i++, &word));
            CHECK(strcmp(word, "structure") == 0 || strcmp(word, "decode") == 0, STATUS_USAGE,
                  "pack: --check is 'structure' or 'decode', not '%s'", word);
            o->check = word[0] == 'd' ? PACK_CHECK_DECODE : PACK_CHECK_STRUCTURE;
        } else {
            return command_unknown_option("pack", word, known);
        }
    }
    CHECK(o->root && a->n_lists > 0 && o->prefix, STATUS_USAGE,
          "pack: --root DIR, --list FILE... and --out PREFIX are needed");
    return STATUS_OK;
}

/* The last part of the prefix: the domain's name where the ids share no folder. */
static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Shards of an earlier packing with the same prefix would be read together with the new ones. */
static void warn_of_others(const struct pack_options *o) {
    char *pattern;
    glob_t found;
    if (asprintf(&pattern, "%s-[0-9]*.h5", o->prefix) < 0) return;
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            char *end;
            const long long number = strtoll(found.gl_pathv[i] + strlen(o->prefix) + 1, &end, 10);
            if (strcmp(end, ".h5") == 0 && number >= o->n_shards)
                log_global(LOG_WARNING, "%s is not of this packing (%" PRId64 " shards): remove it",
                           found.gl_pathv[i], o->n_shards);
        }
        globfree(&found);
    }
    free(pattern);
}

/* The failures of all ranks, in rank order, each on one line of the log. */
static status_t show_failures(struct comm *world, const struct pack_report *mine) {
    char *all = mine->failures;
    int64_t length = (int64_t)mine->failures_length;
    int64_t *offsets = NULL;
    if (world && comm_size(world) > 1) {
        offsets = memory_zeroed((size_t)comm_size(world) + 1, sizeof *offsets);
        CHECK(offsets, STATUS_NO_MEMORY, "out of memory for the report");
        all = NULL;
        const status_t status = comm_gather_bytes(world, 0, mine->failures, length, &all, offsets);
        length = offsets[comm_size(world)];
        free(offsets);
        if (status != STATUS_OK || comm_rank(world) != 0) return status;
    }
    for (char *at = all, *end = all + length; at && at < end;) {
        char *newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline) break;
        log_global(LOG_WARNING, "not packed: %.*s", (int)(newline - at), at);
        at = newline + 1;
    }
    if (all != mine->failures) free(all);
    return STATUS_OK;
}

static status_t conclude(struct launch_context *context, const struct pack_arguments *a,
                         const struct pack_report *mine, double start_s) {
    int64_t sums[3] = {(int64_t)mine->n_packed, (int64_t)mine->n_failed, (int64_t)mine->n_bytes};
    if (context->world) TRY(comm_all_reduce(comm_host_side(context->world), sums, 3, COMM_I64, COMM_SUM));
    TRY(show_failures(context->world, mine));
    const double time_s = clock_now_s() - start_s;
    if (context->rank == 0) {
        warn_of_others(&a->options);
        printf("%s: %" PRId64 " images, %.1f MB in %" PRId64
               " shard%s, %.2f s (%.0f MB/s); not packed: %" PRId64 "\n",
               a->options.prefix, sums[0], 1e-6 * (double)sums[2], a->options.n_shards,
               a->options.n_shards == 1 ? "" : "s", time_s, 1e-6 * (double)sums[2] / time_s, sums[1]);
    }
    CHECK(sums[0] > 0, STATUS_BAD_DATA, "none of the %" PRId64 " images could be packed: is --root right?",
          sums[1]);
    CHECK(!a->strict || sums[1] == 0, STATUS_BAD_DATA,
          "%" PRId64 " of %" PRId64 " images could not be packed", sums[1], sums[0] + sums[1]);
    return STATUS_OK;
}

static status_t run(struct launch_context *context, struct pack_arguments *a,
                    const struct image_list *lists) {
    const double start_s = clock_now_s();
    struct pack_plan plan;
    struct pack_report report = {0};
    TRY(pack_plan_make(lists, a->n_lists, &plan));
    struct pack_options *o = &a->options;
    status_t status = list_report_overlaps(lists, a->n_lists, NULL);
    if (!o->domain) o->domain = plan.domain ? plan.domain : last_part(o->prefix);
    if (o->n_shards == 0) o->n_shards = ((int64_t)plan.n_images + IMAGES_A_SHARD - 1) / IMAGES_A_SHARD;
    if (o->n_shards > (int64_t)plan.n_images) o->n_shards = (int64_t)plan.n_images;
    log_global(LOG_INFO, "packing %zu images of domain %s, %zu classes, into %" PRId64 " shard%s",
               plan.n_images, o->domain, plan.n_classes, o->n_shards, o->n_shards == 1 ? "" : "s");
    for (int64_t s = context->rank; s < o->n_shards && status == STATUS_OK; s += context->n_ranks)
        status = pack_shard(&plan, o, s, &report);
    if (status == STATUS_OK) status = conclude(context, a, &report, start_s);
    pack_report_free(&report);
    pack_plan_free(&plan);
    return status;
}

status_t cmd_pack(struct launch_context *context, int argc, char **argv) {
    struct pack_arguments a;
    struct image_list *lists = NULL;
    size_t n_read = 0;
    status_t status;
    TRY_TO(done, parse(context, argc, argv, &a));
    lists = memory_zeroed(a.n_lists, sizeof *lists);
    CHECK_TO(done, lists, STATUS_NO_MEMORY, "out of memory for lists");
    for (; n_read < a.n_lists; n_read++) TRY_TO(done, list_read(a.list_paths[n_read], &lists[n_read]));
    status = run(context, &a, lists);
done:
    for (size_t i = 0; i < n_read; i++) list_free(&lists[i]);
    free(lists);
    free(a.list_paths);
    return status;
}
