#include "data_shards/pack.h"

#include "common/memory.h"
#include "data_shards/id_map.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CLASSES = 1 << 20 };

/* Where an image was mentioned first. */
struct mention {
    uint32_t list, entry;
};

static status_t take_entry(struct pack_plan *plan, struct id_map *map, struct mention *mentions,
                           const struct image_list *lists, struct mention here) {
    const struct list_entry *entry = &lists[here.list].entries[here.entry];
    CHECK(entry->label < MAX_CLASSES, STATUS_BAD_DATA, "%s:%u: class %d: more than %d classes",
          lists[here.list].name, entry->line, entry->label, MAX_CLASSES);
    uint32_t at;
    if (id_map_add(map, entry->id, (uint32_t)plan->n_images, &at)) {
        mentions[plan->n_images] = here;
        plan->ids[plan->n_images] = entry->id;
        plan->labels[plan->n_images++] = entry->label;
    } else if (plan->labels[at] == -1) {
        mentions[at] = here;
        plan->labels[at] = entry->label;
    } else {
        const struct mention first = mentions[at];
        CHECK(entry->label == -1 || plan->labels[at] == entry->label, STATUS_BAD_DATA,
              "%s:%u: %s has class %d here, but %d in %s:%u", lists[here.list].name, entry->line, entry->id,
              entry->label, plan->labels[at], lists[first.list].name,
              lists[first.list].entries[first.entry].line);
    }
    if (entry->label >= 0 && (size_t)entry->label >= plan->n_classes)
        plan->n_classes = (size_t)entry->label + 1;
    return STATUS_OK;
}

/* The last folder of a path: `begin` and its length; 0 where the path has no folder. */
static size_t last_folder(const char *id, const char **begin) {
    const char *end = strrchr(id, '/');
    if (!end) return 0;
    const char *p = end;
    while (p > id && p[-1] != '/') p--;
    *begin = p;
    return (size_t)(end - p);
}

/* Folder of each class, NULL where its images lie in several. */
static status_t find_class_folders(struct pack_plan *plan) {
    bool *several = memory_zeroed(plan->n_classes, sizeof *several);
    CHECK(several, STATUS_NO_MEMORY, "out of memory for %zu classes", plan->n_classes);
    status_t status = STATUS_OK;
    for (size_t i = 0; i < plan->n_images; i++) {
        if (plan->labels[i] < 0) continue;
        char **name = &plan->class_names[plan->labels[i]];
        bool *mixed = &several[plan->labels[i]];
        const char *folder = "";
        const size_t n = last_folder(plan->ids[i], &folder);
        if (*mixed || (*name && strlen(*name) == n && memcmp(*name, folder, n) == 0)) continue;
        if (*name || n == 0) {
            *mixed = true;
            free(*name);
            *name = NULL;
            continue;
        }
        *name = strndup(folder, n);
        CHECK_TO(done, *name, STATUS_NO_MEMORY, "out of memory for class names");
    }
done:
    free(several);
    return status;
}

static status_t name_classes(struct pack_plan *plan) {
    TRY(find_class_folders(plan));
    struct id_map map;
    TRY(id_map_init(&map, plan->n_classes));
    bool unique = true;
    for (size_t k = 0; k < plan->n_classes && unique; k++)
        if (plan->class_names[k]) unique = id_map_add(&map, plan->class_names[k], (uint32_t)k, NULL);
    id_map_free(&map);
    for (size_t k = 0; k < plan->n_classes; k++) {
        if (!unique) {
            free(plan->class_names[k]);
            plan->class_names[k] = NULL;
        }
        if (!plan->class_names[k] && asprintf(&plan->class_names[k], "%zu", k) < 0)
            plan->class_names[k] = NULL;
        CHECK(plan->class_names[k], STATUS_NO_MEMORY, "out of memory for class names");
    }
    return STATUS_OK;
}

/* The first folder, where all ids share it. */
static status_t find_domain(struct pack_plan *plan) {
    const char *slash = strchr(plan->ids[0], '/');
    const size_t n = slash ? (size_t)(slash - plan->ids[0]) : 0;
    for (size_t i = 0; n > 0 && i < plan->n_images; i++)
        if (strncmp(plan->ids[i], plan->ids[0], n + 1) != 0) return STATUS_OK;
    if (n == 0) return STATUS_OK;
    plan->domain = strndup(plan->ids[0], n);
    CHECK(plan->domain, STATUS_NO_MEMORY, "out of memory for the domain's name");
    return STATUS_OK;
}

status_t pack_plan_make(const struct image_list *lists, size_t n_lists, struct pack_plan *out) {
    struct pack_plan plan = {0};
    struct id_map map = {0};
    size_t n_entries = 0;
    for (size_t i = 0; i < n_lists; i++) n_entries += lists[i].n_entries;
    CHECK(n_entries > 0 && n_entries < UINT32_MAX, STATUS_BAD_DATA, "the lists name %zu images", n_entries);
    status_t status;
    struct mention *mentions = memory_zeroed(n_entries, sizeof *mentions);
    plan.ids = memory_zeroed(n_entries, sizeof *plan.ids);
    plan.labels = memory_zeroed(n_entries, sizeof *plan.labels);
    CHECK_TO(fail, mentions && plan.ids && plan.labels, STATUS_NO_MEMORY, "out of memory for %zu images",
             n_entries);
    TRY_TO(fail, id_map_init(&map, n_entries));
    for (size_t l = 0; l < n_lists; l++)
        for (size_t e = 0; e < lists[l].n_entries; e++)
            TRY_TO(fail,
                   take_entry(&plan, &map, mentions, lists, (struct mention){(uint32_t)l, (uint32_t)e}));
    plan.class_names = memory_zeroed(plan.n_classes, sizeof *plan.class_names);
    CHECK_TO(fail, plan.class_names, STATUS_NO_MEMORY, "out of memory for %zu classes", plan.n_classes);
    TRY_TO(fail, name_classes(&plan));
    TRY_TO(fail, find_domain(&plan));
    *out = plan;
    goto done;
fail:
    pack_plan_free(&plan);
done:
    id_map_free(&map);
    free(mentions);
    return status;
}

void pack_plan_free(struct pack_plan *plan) {
    for (size_t k = 0; plan->class_names && k < plan->n_classes; k++) free(plan->class_names[k]);
    free(plan->class_names);
    free(plan->ids);
    free(plan->labels);
    free(plan->domain);
    *plan = (struct pack_plan){0};
}
