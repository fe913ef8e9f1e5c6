#include "training/run_data.h"

#include "common/log.h"
#include "data_shards/list.h"

#include <stdlib.h>
#include <string.h>

static status_t open_set(const struct string_list *shards, uint32_t first_index, struct shard_set **out) {
    return shard_set_open(NULL, (const char *const *)shards->items, (size_t)shards->n, first_index, out);
}

/* The lists of a run, in the order of run_data's splits. */
enum { LIST_S, LIST_T, LIST_U, LIST_V, N_LISTS };

static status_t resolve_lists(const struct settings *s, struct run_data *d, bool report) {
    const char *const paths[N_LISTS] = {s->data.source.list, s->data.target.labelled,
                                        s->data.target.unlabelled, s->data.target.validation};
    struct split *const splits[N_LISTS] = {&d->source, &d->labelled, &d->unlabelled, &d->validation};
    struct image_list lists[N_LISTS];
    memset(lists, 0, sizeof lists);
    status_t status = STATUS_OK;
    for (int i = 0; i < N_LISTS; i++) {
        TRY_TO(done, list_read(paths[i], &lists[i]));
        TRY_TO(done, split_resolve(i == LIST_S ? d->source_set : d->target_set, &lists[i], splits[i]));
    }
    if (report) TRY_TO(done, list_report_overlaps(lists, N_LISTS, NULL));
done:
    for (int i = 0; i < N_LISTS; i++) list_free(&lists[i]);
    return status;
}

static status_t check_labels(const struct split *split, int32_t n_classes) {
    for (size_t i = 0; i < split->n; i++)
        CHECK(split->label[i] >= 0 && split->label[i] < n_classes, STATUS_BAD_DATA,
              "list %s: image %s has label %d, classes are 0 to %d", split->name,
              shard_set_id(split->set, split->index[i]), split->label[i], n_classes - 1);
    return STATUS_OK;
}

status_t run_data_open(const struct settings *s, bool report, struct run_data *out) {
    struct run_data d;
    memset(&d, 0, sizeof d);
    status_t status = STATUS_OK;
    TRY_TO(fail, open_set(&s->data.source.shards, 0, &d.source_set));
    TRY_TO(fail, open_set(&s->data.target.shards, (uint32_t)shard_set_n_images(d.source_set), &d.target_set));
    const size_t limit = (size_t)s->data.cache_mb << 20, n_s = shard_set_n_images(d.source_set),
                 n_t = shard_set_n_images(d.target_set);
    TRY_TO(fail, shard_set_cache(d.source_set, n_s + n_t ? limit / (n_s + n_t) * n_s : 0));
    TRY_TO(fail, shard_set_cache(d.target_set, n_s + n_t ? limit / (n_s + n_t) * n_t : 0));
    TRY_TO(fail, resolve_lists(s, &d, report));
    const size_t k_s = shard_set_n_classes(d.source_set), k_t = shard_set_n_classes(d.target_set);
    d.n_classes = (int32_t)(k_s > k_t ? k_s : k_t);
    CHECK_TO(fail, d.n_classes >= 2, STATUS_BAD_DATA, "the shards name %d classes, at least 2 are needed",
             d.n_classes);
    TRY_TO(fail, check_labels(&d.source, d.n_classes));
    TRY_TO(fail, check_labels(&d.labelled, d.n_classes));
    TRY_TO(fail, check_labels(&d.validation, d.n_classes));
    TRY_TO(fail, split_without(&d.unlabelled, &d.validation, &d.unlabelled_only));
    d.overlap = d.unlabelled_only.n != d.unlabelled.n;
    *out = d;
    return STATUS_OK;
fail:
    run_data_close(&d);
    return status;
}

void run_data_close(struct run_data *d) {
    split_free(&d->source);
    split_free(&d->labelled);
    split_free(&d->unlabelled);
    split_free(&d->validation);
    split_free(&d->unlabelled_only);
    shard_set_close(d->source_set);
    shard_set_close(d->target_set);
    memset(d, 0, sizeof *d);
}

const char *run_data_class_name(const struct run_data *d, int32_t k) {
    const struct shard_set *set =
        (size_t)k < shard_set_n_classes(d->source_set) ? d->source_set : d->target_set;
    return shard_set_class_name(set, (size_t)k);
}
