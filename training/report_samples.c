#include "training/report_samples.h"

#include "common/file.h"
#include "common/memory.h"
#include "data_shards/encode_png.h"
#include "data_shards/resize.h"
#include "data_shards/shard_set.h"
#include "data_shards/store.h"
#include "training/predict.h"
#include "training/report_svg.h"

#include <stdlib.h>
#include <string.h>

struct samples {
    const struct settings *settings;
    const struct report_data *data;
    struct shard_set *set;
    struct split split;
    size_t n_classes;
    float *probabilities; /* (peers,N_u,K) */
    uint8_t *agree;       /* (N_u) all teachers give the same label */
    struct image_source source;
    struct resize_workspace resize;
    struct image small;
};

static void samples_close(struct samples *s) {
    image_free(&s->small);
    resize_workspace_free(&s->resize);
    image_source_free(&s->source);
    free(s->agree);
    free(s->probabilities);
    split_free(&s->split);
    shard_set_close(s->set);
}

static const float *answer_of(const struct samples *s, int32_t peer, size_t row) {
    return s->probabilities + ((size_t)peer * s->split.n + row) * s->n_classes;
}

static status_t open_images(struct samples *s) {
    const struct target_settings *t = &s->settings->data.target;
    struct image_list list;
    TRY(shard_set_open(NULL, (const char *const *)t->shards.items, (size_t)t->shards.n, 0, &s->set));
    TRY(list_read(t->unlabelled, &list));
    const status_t status = split_resolve(s->set, &list, &s->split);
    list_free(&list);
    return status;
}

static status_t read_probabilities(struct samples *s, const struct store_reader *reader) {
    const uint64_t shape[] = {s->split.n, 0};
    for (int32_t p = 0; p < s->settings->n_peers; p++) {
        char name[128];
        const struct store_tensor *tensor;
        snprintf(name, sizeof name, "%s/probabilities", s->settings->peers[p].name);
        TRY(store_reader_require(reader, name, STORE_F32, 2, shape, &tensor));
        const size_t k = (size_t)tensor->shape[1], n = (size_t)tensor->n_elem;
        CHECK(k > 0 && k < 1000000 && (p == 0 || k == s->n_classes), STATUS_BAD_DATA,
              "%s: %s has %zu classes", store_reader_path(reader), name, k);
        s->n_classes = k;
        size_t n_all;
        CHECK(p > 0 || size_mul(n, (size_t)s->settings->n_peers, &n_all), STATUS_BAD_DATA, "%s: too large",
              store_reader_path(reader));
        if (p == 0) s->probabilities = memory_zeroed(n_all, sizeof *s->probabilities);
        CHECK(s->probabilities, STATUS_NO_MEMORY, "out of memory for the teachers' probabilities");
        TRY(store_reader_read(reader, tensor, s->probabilities + (size_t)p * n));
    }
    return STATUS_OK;
}

static status_t open_teachers(struct samples *s, const char *run) {
    struct store_reader *reader = NULL;
    char *path = file_join(run, "features/teachers.h5");
    CHECK(path, STATUS_NO_MEMORY, "out of memory for a path");
    status_t status = store_reader_open(path, &reader);
    free(path);
    TRY(status);
    status = read_probabilities(s, reader);
    store_reader_close(reader);
    TRY(status);
    s->agree = memory_zeroed(s->split.n, 1);
    CHECK(s->agree, STATUS_NO_MEMORY, "out of memory for the samples");
    for (size_t row = 0; row < s->split.n; row++) {
        s->agree[row] = 1;
        const int32_t first = argmax(answer_of(s, 0, row), (int32_t)s->n_classes);
        for (int32_t p = 1; p < s->settings->n_peers; p++)
            s->agree[row] &= argmax(answer_of(s, p, row), (int32_t)s->n_classes) == first;
    }
    return STATUS_OK;
}

size_t report_samples_choose(const uint8_t *flag, size_t n, uint8_t wanted, size_t n_wanted, size_t *rows) {
    size_t n_there = 0, n_taken = 0, seen = 0;
    for (size_t i = 0; i < n; i++) n_there += flag[i] == wanted;
    const size_t n_take = n_there < n_wanted ? n_there : n_wanted;
    for (size_t i = 0; i < n && n_taken < n_take; i++) {
        if (flag[i] != wanted) continue;
        /* the candidate in the middle of each of n_take equal parts */
        if (seen++ == (size_t)(((double)n_taken + 0.5) * (double)n_there / (double)n_take))
            rows[n_taken++] = i;
    }
    return n_taken;
}

static void put_base64(FILE *out, const uint8_t *bytes, size_t n) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const uint32_t word = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                              (left > 2 ? bytes[i + 2] : 0);
        fputc(digit[word >> 18], out);
        fputc(digit[word >> 12 & 63], out);
        fputc(left > 1 ? digit[word >> 6 & 63] : '=', out);
        fputc(left > 2 ? digit[word & 63] : '=', out);
    }
}

static status_t put_image(FILE *out, struct samples *s, size_t row) {
    const struct image *image;
    TRY(shard_set_image(s->set, s->split.index[row], true, &s->source, &image));
    const int32_t longest = image->height > image->width ? image->height : image->width;
    if (longest > REPORT_SAMPLE_SIDE) {
        const int32_t h = (int32_t)((int64_t)image->height * REPORT_SAMPLE_SIDE / longest);
        const int32_t w = (int32_t)((int64_t)image->width * REPORT_SAMPLE_SIDE / longest);
        TRY(resize_bicubic(&s->resize, image, h > 0 ? h : 1, w > 0 ? w : 1, &s->small));
        image = &s->small;
    }
    uint8_t *bytes;
    size_t n_bytes;
    TRY(encode_png(image, &bytes, &n_bytes));
    fputs("<img alt=\"", out);
    html_text(out, shard_set_id(s->set, s->split.index[row]));
    fputs("\" src=\"data:image/png;base64,", out);
    put_base64(out, bytes, n_bytes);
    fputs("\">", out);
    free(bytes);
    return STATUS_OK;
}

static void put_answers(FILE *out, const struct samples *s, size_t row) {
    const int32_t truth = s->split.label[row];
    char buffer[24];
    fputs("<figcaption>", out);
    if (truth >= 0) {
        fputs("<b>", out);
        html_text(out, report_data_class(s->data, (size_t)truth, buffer));
        fputs("</b>", out);
    }
    for (int32_t p = 0; p < s->settings->n_peers; p++) {
        const float *answer = answer_of(s, p, row);
        const int32_t label = argmax(answer, (int32_t)s->n_classes);
        fprintf(out, "<span class=%s>", truth < 0 ? "open" : label == truth ? "right" : "wrong");
        html_text(out, s->settings->peers[p].name);
        fputs(": ", out);
        html_text(out, report_data_class(s->data, (size_t)label, buffer));
        fprintf(out, " \xc2\xb7 %.0f&nbsp;%%%s</span>", 100 * (double)answer[label],
                truth < 0        ? ""
                : label == truth ? " \xe2\x9c\x93"
                                 : " \xe2\x9c\x97");
    }
    fputs("</figcaption>", out);
}

static status_t put_group(FILE *out, struct samples *s, const char *title, uint8_t wanted, size_t n_wanted) {
    size_t rows[REPORT_N_SAMPLES], n_there = 0;
    const size_t n = report_samples_choose(s->agree, s->split.n, wanted, n_wanted, rows);
    for (size_t row = 0; row < s->split.n; row++) n_there += s->agree[row] == wanted;
    if (n == 0) return STATUS_OK;
    fprintf(out, "<h3>%s <small>%zu of %zu images</small></h3>\n<div class=samples>\n", title, n_there,
            s->split.n);
    for (size_t i = 0; i < n; i++) {
        fputs("<figure>", out);
        TRY(put_image(out, s, rows[i]));
        put_answers(out, s, rows[i]);
        fputs("</figure>\n", out);
    }
    fputs("</div>\n", out);
    return STATUS_OK;
}

status_t report_samples_write(FILE *out, const char *run, const struct settings *settings,
                              const struct report_data *data) {
    struct samples s = {.settings = settings, .data = data};
    char *text = NULL;
    size_t n_bytes;
    FILE *memory = NULL;
    status_t status;
    TRY_TO(done, open_images(&s));
    TRY_TO(done, open_teachers(&s, run));
    memory = open_memstream(&text, &n_bytes);
    CHECK_TO(done, memory, STATUS_NO_MEMORY, "out of memory for the samples");
    status = put_group(memory, &s, "The peers agree", 1, REPORT_N_SAMPLES / 2);
    if (status == STATUS_OK) status = put_group(memory, &s, "The peers disagree", 0, REPORT_N_SAMPLES / 2);
    if (fclose(memory) != 0 && status == STATUS_OK)
        status = FAIL(STATUS_NO_MEMORY, "out of memory for the samples");
    if (status == STATUS_OK) fwrite(text, 1, n_bytes, out);
done:
    free(text);
    samples_close(&s);
    return status;
}
