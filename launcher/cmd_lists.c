/* marrs_dist lists: the split lists of two folders of images, for pack and a configuration. */
#include "launcher/arguments.h"
#include "launcher/commands.h"
#include "launcher/image_folder.h"

#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/rng.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CLASSES = 65536, UNKNOWN = -1 };
enum part { PART_LABELLED, PART_VALIDATION, PART_UNLABELLED, N_PARTS };

struct lists {
    const char *root, *source, *target, *out;
    int64_t n_shots, n_validation, seed;
    char **classes; /* [n_classes] names of the source's folders, in label order */
    size_t n_classes, capacity;
    struct image_paths from, to; /* source and target, relative to root/source and root/target */
    int32_t *from_labels, *to_labels;
    enum part *parts; /* [to.n] */
    size_t n_parts[N_PARTS];
};

/* Length of the first folder of a path, 0 where the image lies in no folder. */
static size_t first_folder(const char *path) {
    const char *slash = strchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

static int32_t class_of(const struct lists *l, const char *path) {
    const size_t n = first_folder(path);
    for (size_t k = 0; n > 0 && k < l->n_classes; k++)
        if (strncmp(l->classes[k], path, n) == 0 && l->classes[k][n] == '\0') return (int32_t)k;
    return UNKNOWN;
}

/* Numbers in names count as numbers: class 10 comes after class 9. */
static int by_version(const void *a, const void *b) {
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

/* The source's folders are the classes. */
static status_t find_classes(struct lists *l) {
    for (size_t i = 0; i < l->from.n; i++) {
        const char *path = l->from.paths[i];
        const size_t n = first_folder(path);
        CHECK(n > 0, STATUS_BAD_DATA,
              "lists: %s/%s/%s lies in no folder of its class; the source wants one folder a class", l->root,
              l->source, path);
        if (class_of(l, path) != UNKNOWN) continue;
        CHECK(l->n_classes < MAX_CLASSES, STATUS_BAD_DATA, "lists: %s/%s has more than %d folders", l->root,
              l->source, MAX_CLASSES);
        char *name = memory_grow(&l->classes, l->n_classes, &l->capacity, sizeof *l->classes)
                         ? strndup(path, n)
                         : NULL;
        CHECK(name, STATUS_NO_MEMORY, "out of memory for the classes");
        l->classes[l->n_classes++] = name;
    }
    qsort(l->classes, l->n_classes, sizeof *l->classes, by_version);
    return STATUS_OK;
}

static status_t label(const struct lists *l, const struct image_paths *images, int32_t **labels) {
    *labels = memory_zeroed(images->n, sizeof **labels);
    CHECK(*labels, STATUS_NO_MEMORY, "out of memory for %zu labels", images->n);
    for (size_t i = 0; i < images->n; i++) (*labels)[i] = class_of(l, images->paths[i]);
    return STATUS_OK;
}

/* Of a class of the target, images drawn by seed and class: first the labelled ones, then those for
 * validation. */
static status_t draw_class(struct lists *l, int32_t k, size_t *order) {
    size_t n = 0;
    for (size_t i = 0; i < l->to.n; i++)
        if (l->to_labels[i] == k) order[n++] = i;
    CHECK(n > (size_t)l->n_shots, STATUS_BAD_DATA,
          "lists: folder %s/%s/%s has %zu image%s; --shots %" PRId64
          " and at least one for validation are wanted of each class",
          l->root, l->target, l->classes[k], n, n == 1 ? "" : "s", l->n_shots);
    struct rng rng =
        rng_start((struct rng_key){.seed = (uint64_t)l->seed, .purpose = RNG_SHUFFLE, .item = (uint32_t)k});
    const size_t n_drawn = size_min(n, (size_t)(l->n_shots + l->n_validation));
    for (size_t i = 0; i < n_drawn; i++) {
        const size_t j = i + rng_below(&rng, (uint32_t)(n - i)), other = order[j];
        order[j] = order[i];
        order[i] = other;
        l->parts[other] = i < (size_t)l->n_shots ? PART_LABELLED : PART_VALIDATION;
    }
    return STATUS_OK;
}

static status_t draw(struct lists *l) {
    status_t status = STATUS_OK;
    size_t *order = memory_zeroed(l->to.n, sizeof *order);
    l->parts = memory_zeroed(l->to.n, sizeof *l->parts);
    CHECK_TO(done, order && l->parts, STATUS_NO_MEMORY, "out of memory for %zu images", l->to.n);
    for (size_t i = 0; i < l->to.n; i++) l->parts[i] = PART_UNLABELLED;
    for (size_t k = 0; k < l->n_classes; k++) TRY_TO(done, draw_class(l, (int32_t)k, order));
    for (size_t i = 0; i < l->to.n; i++) l->n_parts[l->parts[i]]++;
    CHECK_TO(done, l->n_parts[PART_UNLABELLED] > 0, STATUS_BAD_DATA,
             "lists: no image of %s/%s is left unlabelled; there is nothing to adapt to", l->root, l->target);
done:
    free(order);
    return status;
}

/* One list: the images of `folder` whose part is `part` (parts NULL: all). */
static status_t write_list(const struct lists *l, const char *name, const char *folder,
                           const struct image_paths *images, const int32_t *labels, const enum part *parts,
                           enum part part) {
    char *text = NULL, *path = file_join(l->out, name);
    size_t n_bytes = 0, n = 0;
    FILE *memory = path ? open_memstream(&text, &n_bytes) : NULL;
    status_t status = STATUS_OK;
    CHECK_TO(done, memory, STATUS_NO_MEMORY, "out of memory for %s", name);
    for (size_t i = 0; i < images->n; i++) {
        if (parts && parts[i] != part) continue;
        fprintf(memory, "%s/%s %d\n", folder, images->paths[i], labels[i]);
        n++;
    }
    CHECK_TO(done, fclose(memory) == 0, STATUS_NO_MEMORY, "out of memory for %s", path);
    TRY_TO(done, file_write_atomic(path, text, n_bytes));
    printf("%s: %zu images\n", path, n);
done:
    free(text);
    free(path);
    return status;
}

static status_t write_all(const struct lists *l) {
    static const char *const kinds[N_PARTS] = {"labeled", "validation", "unlabeled"};
    char name[512];
    snprintf(name, sizeof name, "labeled_source_images_%s.txt", l->source);
    TRY(write_list(l, name, l->source, &l->from, l->from_labels, NULL, PART_LABELLED));
    for (int p = 0; p < N_PARTS; p++) {
        snprintf(name, sizeof name, "%s_target_images_%s_%" PRId64 ".txt", kinds[p], l->target, l->n_shots);
        TRY(write_list(l, name, l->target, &l->to, l->to_labels, l->parts, (enum part)p));
    }
    return STATUS_OK;
}

static status_t find(const char *root, const char *folder, struct image_paths *out) {
    char *path = file_join(root, folder);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    const status_t status = image_folder_find(path, out);
    free(path);
    return status;
}

static status_t make(struct lists *l) {
    TRY(find(l->root, l->source, &l->from));
    TRY(find(l->root, l->target, &l->to));
    TRY(find_classes(l));
    TRY(label(l, &l->from, &l->from_labels));
    TRY(label(l, &l->to, &l->to_labels));
    TRY(draw(l));
    TRY(write_all(l));
    size_t n_unknown = 0;
    for (size_t i = 0; i < l->to.n; i++) n_unknown += l->to_labels[i] == UNKNOWN;
    log_global(LOG_INFO, "%zu classes; %zu target images lie in no folder of a class: their label is unknown",
               l->n_classes, n_unknown);
    return STATUS_OK;
}

/* A folder's name becomes part of the lists' names. */
static bool is_plain(const char *name) {
    return name && name[0] && name[0] != '.' && !strchr(name, '/') && strlen(name) < 200;
}

status_t cmd_lists(struct launch_context *context, int argc, char **argv) {
    struct lists l = {.n_shots = 3, .n_validation = 3, .seed = 1};
    const struct argument table[] = {
        {.name = "--root", .text = &l.root},
        {.name = "--source", .text = &l.source},
        {.name = "--target", .text = &l.target},
        {.name = "--out", .text = &l.out},
        {.name = "--shots", .number = &l.n_shots, .minimum = 1, .maximum = 1000000},
        {.name = "--validation", .number = &l.n_validation, .minimum = 1, .maximum = 1000000},
        {.name = "--seed", .number = &l.seed, .minimum = 0, .maximum = INT64_MAX},
        {0}};
    TRY(arguments_parse(argc, argv, table, NULL, 0, NULL));
    if (context->rank != 0) return STATUS_OK;
    CHECK(l.root && l.out && l.source && l.target, STATUS_USAGE,
          "lists: --root DIR, --source NAME, --target NAME and --out DIR are needed");
    CHECK(is_plain(l.source) && is_plain(l.target), STATUS_USAGE,
          "lists: --source and --target are names of folders in --root, without '/'");
    CHECK(strcmp(l.source, l.target) != 0, STATUS_USAGE, "lists: source and target are the same folder");
    const status_t status = make(&l);
    for (size_t k = 0; k < l.n_classes; k++) free(l.classes[k]);
    free(l.classes);
    image_paths_free(&l.from);
    image_paths_free(&l.to);
    free(l.from_labels);
    free(l.to_labels);
    free(l.parts);
    return status;
}
