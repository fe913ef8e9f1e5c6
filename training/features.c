/* Stage `features`: every image of every needed domain through the frozen backbones. */
#include "training/features.h"
#include "training/pixels.h"

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "data_shards/store.h"
#include "models/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define FEATURES_FORMAT "marrs-features"

/* ---- which file
 * -------------------------------------------------------------------------------------------- */

struct feature_file {
    const struct run_peer *peer;
    const struct shard_set *set;
    enum feature_view view;
    struct view_spec spec;
    uint64_t key;
    char *path; /* owned */
};

static uint64_t mix(uint64_t hash, const void *bytes, size_t n_bytes) {
    return XXH3_64bits_withSeed(bytes, n_bytes, hash);
}

/* The images by id and checksum: what a domain is, whatever its shards are called. */
static uint64_t hash_images(const struct shard_set *set) {
    const uint32_t first = shard_set_first_index(set);
    const size_t n = shard_set_n_images(set);
    uint64_t hash = mix(0, &n, sizeof n);
    for (size_t i = 0; i < n; i++) {
        size_t row;
        const char *id = shard_set_id(set, first + (uint32_t)i);
        const struct shard *shard = shard_set_locate(set, first + (uint32_t)i, &row);
        const uint64_t checksum = shard_image_hash(shard, row);
        hash = mix(hash, id, strlen(id));
        hash = mix(hash, &checksum, sizeof checksum);
    }
    return hash;
}

static enum dtype feature_precision(const struct run *run) {
    const enum precision_choice choice = run->settings->features.precision;
    return choice == PRECISION_AUTO ? run->precision : choice == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_F32;
}

static status_t make_key(const struct run *run, struct feature_file *f) {
    const struct model_spec *spec = &f->peer->spec;
    const struct peer_settings *s = f->peer->settings;
    uint64_t weights = (uint64_t)run->settings->seed; /* drawn weights: the seed is what they are */
    if (s->weights[0]) TRY(weights_file_hash(s->weights, &weights));
    uint64_t hash = hash_images(f->set);
    const int64_t numbers[] = {(int64_t)weights,
                               spec->family,
                               spec->n_stages,
                               spec->stem,
                               spec->kernel,
                               spec->patch,
                               spec->embed,
                               spec->window,
                               f->peer->image,
                               f->spec.kind,
                               f->spec.size,
                               f->spec.n * (f->view == FEATURE_STRONG),
                               f->spec.m * (f->view == FEATURE_STRONG),
                               f->spec.cutout_size * (f->view == FEATURE_STRONG),
                               f->view == FEATURE_STRONG ? run->settings->seed : 0,
                               feature_precision(run)};
    hash = mix(hash, numbers, sizeof numbers);
    hash = mix(hash, spec->depths, sizeof spec->depths);
    hash = mix(hash, spec->dims, sizeof spec->dims);
    hash = mix(hash, spec->heads, sizeof spec->heads);
    f->key = hash;
    return STATUS_OK;
}

static char *features_folder(const struct run *run) {
    return run->settings->features.folder[0] ? strdup(run->settings->features.folder)
                                             : run_path(run, "", "features");
}

static status_t describe_file(const struct run *run, const struct run_peer *peer, const struct shard_set *set,
                              enum feature_view view, struct feature_file *out) {
    struct feature_file f = {
        .peer = peer, .set = set, .view = view, .spec = view == FEATURE_OWN ? peer->view : peer->strong};
    TRY(make_key(run, &f));
    char *folder = features_folder(run);
    if (!folder ||
        asprintf(&f.path, "%s/%s-%s-%s-%016" PRIx64 ".h5", folder, peer->settings->name,
                 shard_domain(shard_set_shard(set, 0)), view == FEATURE_OWN ? "own" : "strong", f.key) < 0)
        f.path = NULL;
    free(folder);
    CHECK(f.path, STATUS_NO_MEMORY, "out of memory for a path");
    *out = f;
    return STATUS_OK;
}

status_t features_width(const struct run_peer *peer, int64_t *d) {
    const struct model_spec *s = &peer->spec;
    *d = s->family == MODEL_CONVNEXT ? s->dims[s->n_stages - 1] : (int64_t)s->embed << (s->n_stages - 1);
    CHECK(s->family != MODEL_MOBILENETV2, STATUS_BAD_CONFIG,
          "peers.%s: a frozen MobileNet-V2 peer is not known to the method", peer->settings->name);
    return STATUS_OK;
}

/* ---- the work: pieces of files, shared out over all ranks by cost
 * -------------------------------------------- */

/* The files of a run: each peer's own view of both domains and the strong view of the target. */
enum { FILES_A_PEER = 3 };

struct work {
    struct run *run;
    struct feature_file files[SETTINGS_MAX_PEERS * FILES_A_PEER];
    int32_t n_files;
    int64_t piece; /* rows of a piece */
    struct progress progress;
    int64_t n_done, n_all; /* images, of this rank */
};

static status_t list_files(struct work *w) {
    struct run *run = w->run;
    for (int32_t p = 0; p < run->n_peers; p++) {
        const struct run_peer *peer = &run->peers[p];
        struct feature_file *f = &w->files[w->n_files];
        TRY(describe_file(run, peer, run->data.source_set, FEATURE_OWN, &f[0]));
        w->n_files++;
        TRY(describe_file(run, peer, run->data.target_set, FEATURE_OWN, &f[1]));
        w->n_files++;
        TRY(describe_file(run, peer, run->data.target_set, FEATURE_STRONG, &f[2]));
        w->n_files++;
    }
    return STATUS_OK;
}

static char *piece_path(const struct feature_file *f, int64_t first) {
    char *path = NULL;
    return asprintf(&path, "%s.part-%lld", f->path, (long long)first) < 0 ? NULL : path;
}

/* Is a whole piece there? Damaged ones are computed again. */
static bool piece_is_done(const struct feature_file *f, int64_t first, int64_t n, int64_t d) {
    char *path = piece_path(f, first);
    struct store_reader *reader = NULL;
    const struct store_tensor *tensor;
    const uint64_t shape[] = {(uint64_t)n, (uint64_t)d};
    const bool done = path && file_exists(path) && store_reader_open(path, &reader) == STATUS_OK &&
                      store_reader_require(reader, "features", STORE_F32, 2, shape, &tensor) == STATUS_OK &&
                      store_reader_verify(reader, tensor, NULL) == STATUS_OK;
    store_reader_close(reader);
    free(path);
    return done;
}

static status_t write_piece(const struct feature_file *f, int64_t first, int64_t n, int64_t d,
                            const float *rows) {
    char *path = piece_path(f, first);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    struct store_writer *writer = NULL;
    const uint64_t shape[] = {(uint64_t)n, (uint64_t)d};
    status_t status = store_writer_open(path, FEATURES_FORMAT, 1, &writer);
    free(path);
    if (status != STATUS_OK) return status;
    status = store_writer_put(writer, "features", STORE_F32, 2, shape, rows);
    if (status == STATUS_OK) return store_writer_commit(writer);
    store_writer_abandon(writer);
    return status;
}

/* A backbone with an inference pass. */
struct backbone {
    struct net *net;
    struct pass *pass;
    enum dtype precision;
};

static void close_backbone(struct backbone *b) {
    pass_free(b->pass);
    net_free(b->net);
    *b = (struct backbone){0};
}

static status_t open_backbone(const struct run *run, const struct run_peer *peer, struct backbone *out) {
    struct backbone b = {.precision = feature_precision(run)};
    status_t status;
    TRY_TO(fail, run_new_backbone(run, peer, b.precision, &b.net));
    const struct pass_options o = {.batch = (int32_t)run->settings->features.batch,
                                   .height = peer->image,
                                   .width = peer->image,
                                   .mode = PASS_INFER,
                                   .record = run->settings->cuda.graph};
    TRY_TO(fail, pass_new(b.net, &o, &b.pass));
    *out = b;
    return STATUS_OK;
fail:
    close_backbone(&b);
    return status;
}

static status_t show_progress(struct work *w, const struct feature_file *f) {
    if (!progress_due(&w->progress, false)) return STATUS_OK;
    char text[160];
    snprintf(text, sizeof text, "%s, %s view of %s", f->peer->settings->name,
             f->view == FEATURE_OWN ? "own" : "strong", shard_domain(shard_set_shard(f->set, 0)));
    progress_show(&w->progress, "features", w->n_done, w->n_all, text);
    return STATUS_OK;
}

static status_t infer_batch(const struct run *run, const struct backbone *b, struct pixels *pixels,
                            const struct loader_batch *batch, int64_t d, float *rows) {
    TRY(pixels_copy(pixels, batch, 0, pass_input(b->pass)));
    TRY(pass_forward(b->pass, &(struct forward_options){0}));
    TRY(pixels_ahead(pixels));
    return run->ops->copy_out(run->be, rows, pass_features(b->pass),
                              (size_t)(batch->parts[0].n * d) * sizeof *rows);
}

/* Rows [rows) of a file through the backbone, piece by piece. */
static status_t compute_rows(struct work *w, const struct feature_file *f, const struct split *all,
                             struct backbone *b, struct interval rows, int64_t d) {
    const struct run *run = w->run;
    const int64_t batch = run->settings->features.batch;
    const struct loader_stream stream = {.split = all,
                                         .mode = SAMPLER_IN_ORDER,
                                         .batch = (uint32_t)batch,
                                         .first_row = (size_t)rows.begin,
                                         .end_row = (size_t)rows.end};
    const struct loader_part part = {
        .stream = 0, .view = f->spec, .peer = 255, .view_id = 1, .part = 0, .n_parts = 1};
    const struct loader_config config = {.streams = &stream,
                                         .n_streams = 1,
                                         .parts = &part,
                                         .n_parts = 1,
                                         .seed = (uint64_t)run->settings->seed,
                                         .stage = STAGE_FEATURES,
                                         .end_step = (interval_length(rows) + batch - 1) / batch,
                                         .n_threads = run->n_workers,
                                         .n_ahead = 3,
                                         .verify = run->settings->data.verify};
    struct pixels pixels;
    float *features = memory_zeroed((size_t)(interval_length(rows) * d), sizeof *features);
    CHECK(features, STATUS_NO_MEMORY, "out of memory for %lld features", (long long)interval_length(rows));
    status_t status = pixels_open(&pixels, run->ops, run->be, b->precision, &config);
    if (status != STATUS_OK) {
        free(features);
        return status;
    }
    for (int64_t done = 0; status == STATUS_OK && done < interval_length(rows);) {
        struct loader_batch *loaded;
        TRY_TO(out, pixels_next(&pixels, &loaded));
        CHECK_TO(out, loaded, STATUS_INTERNAL, "the loader ended early");
        status = infer_batch(run, b, &pixels, loaded, d, features + done * d);
        done += loaded->parts[0].n;
        w->n_done += loaded->parts[0].n;
        loader_release(pixels.loader, loaded);
        comm_poke(run->world);
        if (run->stop && *run->stop) break;
        if (status == STATUS_OK) status = show_progress(w, f);
        if (status == STATUS_OK && done == interval_length(rows))
            status = write_piece(f, rows.begin, done, d, features);
    }
out:
    pixels_close(&pixels);
    free(features);
    return status;
}

/* This rank's rows of one file, in pieces whose borders do not depend on the number of ranks. */
static status_t compute_share(struct work *w, const struct feature_file *f, struct interval pieces,
                              struct backbone *b) {
    const int64_t n = (int64_t)shard_set_n_images(f->set);
    struct split all;
    int64_t d;
    TRY(features_width(f->peer, &d));
    TRY(split_all(f->set, &all));
    status_t status = STATUS_OK;
    for (int64_t i = pieces.begin; i < pieces.end && status == STATUS_OK && !(w->run->stop && *w->run->stop);
         i++) {
        const struct interval rows =
            interval_meet((struct interval){i * w->piece, (i + 1) * w->piece}, (struct interval){0, n});
        if (piece_is_done(f, rows.begin, interval_length(rows), d)) {
            w->n_done += interval_length(rows);
            continue;
        }
        if (!b->net) status = open_backbone(w->run, f->peer, b);
        if (status == STATUS_OK) status = compute_rows(w, f, &all, b, rows, d);
    }
    split_free(&all);
    return status;
}

static int64_t n_pieces(const struct work *w, const struct feature_file *f) {
    return ((int64_t)shard_set_n_images(f->set) + w->piece - 1) / w->piece;
}

/* Rank r of n takes the pieces whose middle lies in its n-th of the total cost, all files in one row: a
 * peer's ranks work on its backbone, and those that would be idle help the other. */
static struct interval pieces_of(const struct work *w, const double *macs, int32_t file, double total,
                                 double before) {
    const int rank = comm_rank(w->run->world), n_ranks = comm_size(w->run->world);
    const double cost = macs[w->files[file].peer->index], lo = total * rank / n_ranks,
                 hi = total * (rank + 1) / n_ranks;
    struct interval mine = {.begin = 0, .end = 0};
    bool any = false;
    for (int64_t i = 0; i < n_pieces(w, &w->files[file]); i++) {
        const double middle = before + ((double)i + 0.5) * cost;
        if (middle < lo || middle >= hi) continue;
        if (!any) mine.begin = i;
        mine.end = i + 1;
        any = true;
    }
    return mine;
}

static status_t costs(const struct run *run, double *macs) {
    for (int32_t p = 0; p < run->n_peers; p++) {
        struct model_cost cost;
        const struct run_peer *peer = &run->peers[p];
        TRY(model_cost(&peer->spec, 1, peer->image, peer->image, run->precision, &cost));
        macs[p] = (double)cost.macs;
    }
    return STATUS_OK;
}

static status_t compute_all(struct work *w, const bool *missing) {
    double macs[SETTINGS_MAX_PEERS], total = 0, before = 0;
    struct interval mine[SETTINGS_MAX_PEERS * FILES_A_PEER] = {{0, 0}};
    struct backbone b = {0};
    TRY(costs(w->run, macs));
    for (int32_t i = 0; i < w->n_files; i++)
        if (missing[i]) total += (double)n_pieces(w, &w->files[i]) * macs[w->files[i].peer->index];
    for (int32_t i = 0; i < w->n_files; i++) {
        if (!missing[i]) continue;
        mine[i] = pieces_of(w, macs, i, total, before);
        before += (double)n_pieces(w, &w->files[i]) * macs[w->files[i].peer->index];
        w->n_all += interval_length(mine[i]) * w->piece;
    }
    w->progress = progress_start(w->run->settings->log.every_s, 0, w->run->writes);
    status_t status = STATUS_OK;
    for (int32_t i = 0; i < w->n_files && status == STATUS_OK; i++) {
        if (i > 0 && w->files[i].peer != w->files[i - 1].peer) close_backbone(&b);
        if (interval_length(mine[i]) > 0) status = compute_share(w, &w->files[i], mine[i], &b);
    }
    progress_clear(&w->progress);
    close_backbone(&b);
    return status;
}

/* ---- joining the pieces
 * --------------------------------------------------------------------------------------- */

static status_t append_piece(struct store_writer *writer, const struct feature_file *f, int64_t first,
                             int64_t n, int64_t d) {
    char *path = piece_path(f, first);
    struct store_reader *reader = NULL;
    const struct store_tensor *tensor;
    const uint64_t shape[] = {(uint64_t)n, (uint64_t)d};
    float *rows = memory_zeroed((size_t)(n * d), sizeof *rows);
    status_t status = STATUS_OK;
    CHECK_TO(done, path && rows, STATUS_NO_MEMORY, "out of memory for features");
    TRY_TO(done, store_reader_open(path, &reader));
    TRY_TO(done, store_reader_require(reader, "features", STORE_F32, 2, shape, &tensor));
    TRY_TO(done, store_reader_read(reader, tensor, rows));
    status = store_writer_append(writer, rows, (size_t)(n * d) * sizeof *rows);
done:
    store_reader_close(reader);
    free(rows);
    free(path);
    return status;
}

static status_t join(const struct work *w, const struct feature_file *f) {
    const int64_t n = (int64_t)shard_set_n_images(f->set);
    struct store_writer *writer = NULL;
    int64_t d;
    status_t status;
    TRY(features_width(f->peer, &d));
    const uint64_t shape[] = {(uint64_t)n, (uint64_t)d};
    TRY(store_writer_open(f->path, FEATURES_FORMAT, 1, &writer));
    TRY_TO(fail, store_writer_set_text(writer, "peer", f->peer->settings->name));
    TRY_TO(fail, store_writer_set_text(writer, "domain", shard_domain(shard_set_shard(f->set, 0))));
    TRY_TO(fail, store_writer_set_text(writer, "view", view_kind_name(f->spec.kind)));
    TRY_TO(fail, store_writer_set_integer(writer, "key", (int64_t)f->key));
    TRY_TO(fail, store_writer_begin(writer, "features", STORE_F32, 2, shape));
    for (int64_t first = 0; first < n; first += w->piece)
        TRY_TO(fail, append_piece(writer, f, first, n - first < w->piece ? n - first : w->piece, d));
    TRY(store_writer_commit(writer));
    for (int64_t first = 0; first < n; first += w->piece) {
        char *path = piece_path(f, first);
        if (path) unlink(path);
        free(path);
    }
    return STATUS_OK;
fail:
    store_writer_abandon(writer);
    return status;
}

static status_t stage(struct work *w) {
    struct run *run = w->run;
    bool missing[SETTINGS_MAX_PEERS * FILES_A_PEER] = {false}, stopped;
    int64_t absent[SETTINGS_MAX_PEERS * FILES_A_PEER];
    TRY(list_files(w));
    for (int32_t i = 0; i < w->n_files; i++) absent[i] = run->writes && !file_exists(w->files[i].path);
    TRY(comm_broadcast(comm_host_side(run->world), 0, absent, w->n_files, COMM_I64));
    for (int32_t i = 0; i < w->n_files; i++) {
        missing[i] = absent[i] != 0;
        if (!missing[i]) log_global(LOG_INFO, "features: %s is there already", w->files[i].path);
    }
    TRY(compute_all(w, missing));
    TRY(run_should_stop(run, &stopped)); /* also: everyone's pieces are there */
    CHECK(!stopped, STATUS_STOPPED, "stopped while computing features; run again to go on");
    for (int32_t i = 0; i < w->n_files; i++) /* files are joined side by side, the first ranks one each */
        if (missing[i] && i % comm_size(run->world) == comm_rank(run->world)) TRY(join(w, &w->files[i]));
    return comm_barrier(run->world);
}

status_t stage_features(struct run *run) {
    struct work w = {.run = run};
    const int64_t batch = run->settings->features.batch;
    w.piece = batch * ((63 + batch) / batch); /* at least 64 images */
    const status_t status = stage(&w);
    for (int32_t i = 0; i < w.n_files; i++) free(w.files[i].path);
    return status;
}

status_t features_load(const struct run *run, const struct run_peer *peer, const struct split *split,
                       enum feature_view view, struct interval rows, int64_t d, float **out) {
    struct feature_file f;
    struct store_reader *reader = NULL;
    const struct store_tensor *tensor;
    float *whole = NULL, *x = NULL;
    status_t status = STATUS_OK;
    TRY(describe_file(run, peer, split->set, view, &f));
    const uint64_t shape[] = {shard_set_n_images(split->set), (uint64_t)d};
    TRY_TO(done, store_reader_open(f.path, &reader));
    TRY_TO(done, store_reader_require(reader, "features", STORE_F32, 2, shape, &tensor));
    whole = memory_zeroed((size_t)tensor->n_elem, sizeof *whole);
    x = memory_zeroed((size_t)(interval_length(rows) * d), sizeof *x);
    CHECK_TO(done, whole && x, STATUS_NO_MEMORY, "out of memory for the features of %zu images",
             (size_t)shape[0]);
    TRY_TO(done, store_reader_read(reader, tensor, whole));
    for (int64_t i = rows.begin; i < rows.end; i++)
        memcpy(x + (i - rows.begin) * d,
               whole + (int64_t)(split->index[i] - shard_set_first_index(split->set)) * d,
               (size_t)d * sizeof *x);
    *out = x;
    x = NULL;
done:
    store_reader_close(reader);
    free(whole);
    free(x);
    free(f.path);
    return status;
}
