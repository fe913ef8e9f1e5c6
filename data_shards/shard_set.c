#include "data_shards/shard_set.h"

#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "data_shards/id_map.h"

#include <glob.h>
#include <stdatomic.h>
#include <string.h>

/* A decoded image in the cache; published once, then read-only. */
struct cached {
    int32_t height, width;
    uint8_t pixels[]; /* (H,W,3), and IMAGE_SLACK_BYTES */
};

struct shard_set {
    struct shard **shards;
    size_t n_shards, shard_capacity;
    uint32_t *first_row; /* [n_shards+1] number of images before each shard */
    uint32_t first_index;
    size_t n_images, n_classes;
    const struct shard *class_source; /* the shard with the most classes */
    struct id_map ids;                /* id -> number within the set */
    /* cache */
    struct cached *_Atomic *cache; /* [n_images], NULL: none */
    size_t cache_limit_bytes;
    _Atomic size_t cache_bytes;
};

static status_t add_shard(struct shard_set *set, const char *path) {
    for (size_t i = 0; i < set->n_shards; i++)
        CHECK(strcmp(shard_path(set->shards[i]), path) != 0, STATUS_BAD_DATA, "shard %s is named twice",
              path);
    CHECK(memory_grow(&set->shards, set->n_shards, &set->shard_capacity, sizeof *set->shards),
          STATUS_NO_MEMORY, "out of memory for shards");
    TRY(shard_open(path, &set->shards[set->n_shards]));
    set->n_shards++;
    return STATUS_OK;
}

static status_t add_pattern(struct shard_set *set, const char *folder, const char *pattern) {
    char *path = file_join(folder, pattern);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    glob_t found;
    const int failed = glob(path, 0, NULL, &found);
    status_t status = STATUS_OK;
    if (failed) {
        status = failed == GLOB_NOMATCH ? FAIL(STATUS_MISSING, "no shard is named %s", path)
                                        : FAIL(STATUS_IO, "cannot look for shards %s", path);
    } else {
        for (size_t i = 0; i < found.gl_pathc && status == STATUS_OK; i++)
            status = add_shard(set, found.gl_pathv[i]);
        globfree(&found);
    }
    free(path);
    return status;
}

/* Number the images and gather the ids. */
static status_t index_images(struct shard_set *set) {
    uint64_t n = 0;
    set->first_row = memory_zeroed(set->n_shards + 1, sizeof *set->first_row);
    CHECK(set->first_row, STATUS_NO_MEMORY, "out of memory for shards");
    for (size_t s = 0; s < set->n_shards; s++) {
        n += shard_n_images(set->shards[s]);
        CHECK(n + set->first_index < UINT32_MAX, STATUS_BAD_DATA, "more than 2^32 images in one run");
        set->first_row[s + 1] = (uint32_t)n;
    }
    set->n_images = (size_t)n;
    TRY(id_map_init(&set->ids, set->n_images));
    for (size_t s = 0; s < set->n_shards; s++) {
        for (size_t i = 0; i < shard_n_images(set->shards[s]); i++) {
            const char *id = shard_id(set->shards[s], i);
            uint32_t other;
            if (id_map_add(&set->ids, id, set->first_row[s] + (uint32_t)i, &other)) continue;
            size_t row;
            const struct shard *holder = shard_set_locate(set, set->first_index + other, &row);
            return FAIL(STATUS_BAD_DATA,
                        "%s row %zu and %s row %zu have the same id %s: shards of an earlier packing?",
                        shard_path(holder), row, shard_path(set->shards[s]), i, id);
        }
    }
    return STATUS_OK;
}

/* One shard's table may be shorter than another's, but where both name a class they agree. */
static status_t merge_classes(struct shard_set *set) {
    set->class_source = set->shards[0];
    for (size_t s = 1; s < set->n_shards; s++)
        if (shard_n_classes(set->shards[s]) > shard_n_classes(set->class_source))
            set->class_source = set->shards[s];
    set->n_classes = shard_n_classes(set->class_source);
    for (size_t s = 0; s < set->n_shards; s++) {
        for (size_t k = 0; k < shard_n_classes(set->shards[s]); k++) {
            const char *a = shard_class_name(set->shards[s], k), *b = shard_class_name(set->class_source, k);
            CHECK(strcmp(a, b) == 0, STATUS_BAD_DATA,
                  "class %zu is %s in %s, but %s in %s: packed from lists that number "
                  "the classes differently?",
                  k, a, shard_path(set->shards[s]), b, shard_path(set->class_source));
        }
    }
    return STATUS_OK;
}

status_t shard_set_open(const char *folder, const char *const *patterns, size_t n_patterns,
                        uint32_t first_index, struct shard_set **out) {
    struct shard_set *set = memory_zeroed(1, sizeof *set);
    CHECK(set, STATUS_NO_MEMORY, "out of memory for shards");
    set->first_index = first_index;
    status_t status;
    CHECK_TO(fail, n_patterns > 0, STATUS_MISSING, "no shards are named");
    for (size_t i = 0; i < n_patterns; i++) TRY_TO(fail, add_pattern(set, folder, patterns[i]));
    TRY_TO(fail, index_images(set));
    TRY_TO(fail, merge_classes(set));
    *out = set;
    return STATUS_OK;
fail:
    shard_set_close(set);
    return status;
}

void shard_set_close(struct shard_set *set) {
    if (!set) return;
    for (size_t i = 0; set->cache && i < set->n_images; i++)
        free(atomic_load_explicit(&set->cache[i], memory_order_relaxed));
    free(set->cache);
    for (size_t s = 0; s < set->n_shards; s++) shard_close(set->shards[s]);
    free(set->shards);
    free(set->first_row);
    id_map_free(&set->ids);
    free(set);
}

size_t shard_set_n_shards(const struct shard_set *set) {
    return set->n_shards;
}
const struct shard *shard_set_shard(const struct shard_set *set, size_t i) {
    return set->shards[i];
}
uint32_t shard_set_first_index(const struct shard_set *set) {
    return set->first_index;
}
size_t shard_set_n_images(const struct shard_set *set) {
    return set->n_images;
}
size_t shard_set_n_classes(const struct shard_set *set) {
    return set->n_classes;
}
const char *shard_set_class_name(const struct shard_set *set, size_t k) {
    return shard_class_name(set->class_source, k);
}

const struct shard *shard_set_locate(const struct shard_set *set, uint32_t index, size_t *row_out) {
    const uint32_t number = index - set->first_index;
    size_t low = 0, high = set->n_shards; /* first_row[low] <= number < first_row[high] */
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (set->first_row[middle] <= number)
            low = middle;
        else
            high = middle;
    }
    *row_out = number - set->first_row[low];
    return set->shards[low];
}

const char *shard_set_id(const struct shard_set *set, uint32_t index) {
    size_t row;
    const struct shard *shard = shard_set_locate(set, index, &row);
    return shard_id(shard, row);
}

bool shard_set_find(const struct shard_set *set, const char *id, uint32_t *index_out) {
    uint32_t number;
    if (!id_map_find(&set->ids, id, &number)) return false;
    *index_out = set->first_index + number;
    return true;
}

/* ---- images -------------------------------------------------------------------------------------------- */
status_t shard_set_cache(struct shard_set *set, size_t limit_bytes) {
    set->cache_limit_bytes = limit_bytes;
    if (limit_bytes == 0 || set->cache) return STATUS_OK;
    set->cache = memory_zeroed(set->n_images, sizeof *set->cache);
    CHECK(set->cache, STATUS_NO_MEMORY, "out of memory for a cache of %zu images", set->n_images);
    return STATUS_OK;
}

/* Copy into the cache where there is room. Two threads may decode the same image at the same time; the first
 * wins. */
static void keep(struct shard_set *set, uint32_t number, const struct image *image) {
    const size_t n_pixel_bytes = image_n_bytes(image),
                 n_bytes = sizeof(struct cached) + n_pixel_bytes + IMAGE_SLACK_BYTES;
    const size_t before = atomic_fetch_add_explicit(&set->cache_bytes, n_bytes, memory_order_relaxed);
    struct cached *entry = before + n_bytes <= set->cache_limit_bytes ? malloc(n_bytes) : NULL;
    if (entry) {
        entry->height = image->height;
        entry->width = image->width;
        memcpy(entry->pixels, image->data, n_pixel_bytes);
        memset(entry->pixels + n_pixel_bytes, 0, IMAGE_SLACK_BYTES);
        struct cached *expected = NULL;
        if (atomic_compare_exchange_strong_explicit(&set->cache[number], &expected, entry,
                                                    memory_order_release, memory_order_relaxed))
            return;
        free(entry);
    }
    atomic_fetch_sub_explicit(&set->cache_bytes, n_bytes, memory_order_relaxed);
}

status_t shard_set_image(const struct shard_set *set, uint32_t index, bool verify,
                         struct image_source *source, const struct image **out) {
    const uint32_t number = index - set->first_index;
    if (set->cache) {
        struct cached *entry = atomic_load_explicit(&set->cache[number], memory_order_acquire);
        if (entry) {
            /* A view on the cache: `from_cache` owns nothing. */
            source->from_cache =
                (struct image){.data = entry->pixels, .height = entry->height, .width = entry->width};
            *out = &source->from_cache;
            return STATUS_OK;
        }
    }
    size_t row;
    const struct shard *shard = shard_set_locate(set, index, &row);
    TRY(shard_read(shard, row, verify, &source->bytes));
    TRY(shard_decode(shard, row, &source->bytes, &source->decoded));
    /* The cache changes no result, so a set that is otherwise const may fill it. */
    if (set->cache) keep((struct shard_set *)set, number, &source->decoded);
    *out = &source->decoded;
    return STATUS_OK;
}

void image_source_free(struct image_source *source) {
    free(source->bytes.data);
    image_free(&source->decoded);
    *source = (struct image_source){0};
}
