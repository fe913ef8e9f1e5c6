#include "data_shards/shard_set.h"

#include "common/memory.h"

#include <string.h>

static status_t allocate(struct split *split, const struct shard_set *set, const char *name, size_t n) {
    *split = (struct split){.set = set, .n = n, .n_classes = (int32_t)shard_set_n_classes(set)};
    split->name = strdup(name);
    split->index = memory_zeroed(n, sizeof *split->index);
    split->label = memory_zeroed(n, sizeof *split->label);
    if (split->name && split->index && split->label) return STATUS_OK;
    split_free(split);
    return FAIL(STATUS_NO_MEMORY, "out of memory for the %zu images of %s", n, name);
}

/* The label of one entry, checked against the shard's. */
static status_t merge_label(const struct image_list *list, const struct list_entry *entry,
                            const struct shard *shard, size_t row, int32_t n_classes, int32_t *label_out) {
    const int32_t known = shard_label(shard, row);
    CHECK(entry->label < n_classes, STATUS_BAD_DATA, "%s:%u: class %d, but the shards have %d classes",
          list->name, entry->line, entry->label, n_classes);
    CHECK(entry->label == -1 || known == -1 || entry->label == known, STATUS_BAD_DATA,
          "%s:%u: %s has class %d here, but %d in %s", list->name, entry->line, entry->id, entry->label,
          known, shard_path(shard));
    *label_out = entry->label == -1 ? known : entry->label;
    return STATUS_OK;
}

status_t split_resolve(const struct shard_set *set, const struct image_list *list, struct split *out) {
    struct split split;
    TRY(allocate(&split, set, list->name, list->n_entries));
    status_t status;
    size_t n_missing = 0;
    const struct list_entry *first_missing = NULL;
    for (size_t i = 0; i < list->n_entries; i++) {
        const struct list_entry *entry = &list->entries[i];
        if (!shard_set_find(set, entry->id, &split.index[i])) {
            if (n_missing++ == 0) first_missing = entry;
            continue;
        }
        size_t row;
        const struct shard *shard = shard_set_locate(set, split.index[i], &row);
        TRY_TO(fail, merge_label(list, entry, shard, row, split.n_classes, &split.label[i]));
    }
    CHECK_TO(fail, n_missing == 0, STATUS_BAD_DATA,
             "%s:%u: %s is in none of the shards (%zu of the %zu images are not); pack them with this list",
             list->name, first_missing->line, first_missing->id, n_missing, list->n_entries);
    *out = split;
    return STATUS_OK;
fail:
    split_free(&split);
    return status;
}

status_t split_all(const struct shard_set *set, struct split *out) {
    TRY(allocate(out, set, "all images", shard_set_n_images(set)));
    for (size_t i = 0; i < out->n; i++) {
        size_t row;
        out->index[i] = shard_set_first_index(set) + (uint32_t)i;
        const struct shard *shard = shard_set_locate(set, out->index[i], &row);
        out->label[i] = shard_label(shard, row);
    }
    return STATUS_OK;
}

status_t split_without(const struct split *split, const struct split *without, struct split *out) {
    const size_t n_images = shard_set_n_images(split->set);
    const uint32_t first = shard_set_first_index(split->set);
    uint8_t *removed = memory_zeroed(n_images, 1);
    CHECK(removed, STATUS_NO_MEMORY, "out of memory for the images of %s", split->name);
    for (size_t i = 0; i < without->n; i++)
        if (without->index[i] >= first && without->index[i] - first < n_images)
            removed[without->index[i] - first] = 1;
    struct split kept;
    const status_t status = allocate(&kept, split->set, split->name, split->n);
    if (status == STATUS_OK) {
        size_t n = 0;
        for (size_t i = 0; i < split->n; i++) {
            if (removed[split->index[i] - first]) continue;
            kept.index[n] = split->index[i];
            kept.label[n++] = split->label[i];
        }
        kept.n = n;
        *out = kept;
    }
    free(removed);
    return status;
}

void split_free(struct split *split) {
    free(split->name);
    free(split->index);
    free(split->label);
    *split = (struct split){0};
}
