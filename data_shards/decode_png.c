/* PNG through libpng: rows are read as they are in the file, and brought to RGB here by Pillow's rules. */
#include "common/memory.h"
#include "data_shards/decode_formats.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

enum {
    MESSAGE_BYTES = 128,
    PIXELS_PER_BYTE = 8 * 1032, /* one bit a pixel, and deflate's best */
};

/* All state of one decoding; in memory, so that it survives longjmp. */
struct reader {
    const uint8_t *bytes;
    size_t n_bytes, position;
    png_structp png;
    png_infop info;
    uint8_t *raw; /* one row as it is in the file; all of them where it is interlaced */
    bool have_pixels;
    status_t status;
    char message[MESSAGE_BYTES];
    jmp_buf jump;
};

/* What bringing a row to RGB depends on. */
struct layout {
    int n_channels, depth;
    bool is_palette;
    uint8_t palette[256][3]; /* black behind its end */
};

static void on_error(png_structp png, png_const_charp message) {
    struct reader *reader = png_get_error_ptr(png);
    snprintf(reader->message, sizeof reader->message, "%s", message);
    longjmp(reader->jump, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png, (void)message;
}

static void *on_malloc(png_structp png, png_alloc_size_t n_bytes) {
    struct reader *reader = png_get_mem_ptr(png);
    void *memory = malloc(n_bytes);
    if (!memory) reader->status = STATUS_NO_MEMORY;
    return memory;
}

static void on_free(png_structp png, void *memory) {
    (void)png;
    free(memory);
}

static void on_read(png_structp png, png_bytep to, size_t n_bytes) {
    struct reader *reader = png_get_io_ptr(png);
    if (n_bytes > reader->n_bytes - reader->position) {
        if (reader->have_pixels)
            longjmp(reader->jump, 1); /* only the end mark is missing: fine, as in Pillow */
        png_error(png, "the file ends early");
    }
    memcpy(to, reader->bytes + reader->position, n_bytes);
    reader->position += n_bytes;
}

static uint32_t big_endian_32(const uint8_t *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

status_t decode_png_probe(const uint8_t *bytes, size_t n_bytes, int32_t *height, int32_t *width) {
    CHECK(n_bytes >= 33, STATUS_BAD_DATA, "PNG: the file ends early");
    CHECK(big_endian_32(bytes + 8) == 13 && memcmp(bytes + 12, "IHDR", 4) == 0, STATUS_BAD_DATA,
          "PNG: no header after the signature");
    const uint32_t w = big_endian_32(bytes + 16), h = big_endian_32(bytes + 20);
    TRY(decode_check_sides(h, w, n_bytes, PIXELS_PER_BYTE));
    *height = (int32_t)h;
    *width = (int32_t)w;
    return STATUS_OK;
}

static void read_layout(struct reader *reader, struct layout *out) {
    *out = (struct layout){
        .n_channels = png_get_channels(reader->png, reader->info),
        .depth = png_get_bit_depth(reader->png, reader->info),
        .is_palette = png_get_color_type(reader->png, reader->info) == PNG_COLOR_TYPE_PALETTE,
    };
    png_colorp colours;
    int n = 0;
    if (!out->is_palette || !png_get_PLTE(reader->png, reader->info, &colours, &n)) return;
    for (int i = 0; i < n && i < 256; i++) {
        out->palette[i][0] = colours[i].red;
        out->palette[i][1] = colours[i].green;
        out->palette[i][2] = colours[i].blue;
    }
}

/* One grey sample (one byte where depth <= 8, big-endian 16 bits otherwise) to 8 bits: 16-bit grey is
 * clipped; with alpha it keeps its high byte. */
static inline uint8_t grey_to_8(const uint8_t *sample, int depth, bool has_alpha) {
    switch (depth) {
    case 1:
        return *sample ? 255 : 0;
    case 2:
        return (uint8_t)(*sample * 85);
    case 4:
        return (uint8_t)(*sample * 17);
    case 8:
        return *sample;
    default:
        return has_alpha || sample[0] == 0 ? sample[!has_alpha] : 255;
    }
}

/* n pixels of a row as in the file (packed samples spread to a byte each) -> RGB. */
static void row_to_rgb(const struct layout *layout, const uint8_t *row, int32_t n, uint8_t *rgb) {
    const size_t sample_bytes = layout->depth == 16 ? 2 : 1,
                 pixel_bytes = sample_bytes * (size_t)layout->n_channels;
    const bool has_alpha = layout->n_channels % 2 == 0;
    for (int32_t i = 0; i < n; i++, row += pixel_bytes, rgb += 3) {
        if (layout->is_palette)
            memcpy(rgb, layout->palette[*row], 3);
        else if (layout->n_channels <= 2)
            rgb[0] = rgb[1] = rgb[2] = grey_to_8(row, layout->depth, has_alpha);
        else
            for (size_t c = 0; c < 3; c++) rgb[c] = row[c * sample_bytes];
    }
}

/* Errors jump to reader->jump. */
static void read_pixels(struct reader *reader, const struct layout *layout, int n_passes, struct image *out) {
    const bool as_it_is = layout->n_channels == 3 && layout->depth == 8;
    const size_t row_bytes = png_get_rowbytes(reader->png, reader->info), out_bytes = 3 * (size_t)out->width;
    const size_t n_raw_rows = as_it_is ? 0 : n_passes > 1 ? (size_t)out->height : 1;
    size_t raw_bytes;
    if (!size_mul(row_bytes, n_raw_rows, &raw_bytes) || !(reader->raw = calloc(raw_bytes + 1, 1))) {
        reader->status = STATUS_NO_MEMORY;
        png_error(reader->png, "no memory for its rows");
    }
    for (int pass = 0; pass < n_passes; pass++)
        for (int32_t y = 0; y < out->height; y++) {
            uint8_t *to = out->data + (size_t)y * out_bytes;
            uint8_t *row = as_it_is ? to : n_passes > 1 ? reader->raw + (size_t)y * row_bytes : reader->raw;
            png_read_row(reader->png, row, NULL);
            if (!as_it_is && pass == n_passes - 1) row_to_rgb(layout, row, out->width, to);
        }
    reader->have_pixels = true;
    png_read_end(reader->png, NULL); /* checks the last sums */
}

/* Errors jump to reader->jump. */
static void read_file(struct reader *reader, struct image *out) {
    png_structp png = reader->png;
    png_set_read_fn(png, reader, on_read);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);         /* the product has been checked */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1); /* no profiles, texts, ... */
    png_read_info(png, reader->info);
    struct layout layout;
    read_layout(reader, &layout);
    png_set_packing(png);
    const int n_passes = png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    read_pixels(reader, &layout, n_passes, out);
}

static status_t finish(struct reader *reader, status_t status) {
    png_destroy_read_struct(&reader->png, &reader->info, NULL);
    free(reader->raw);
    return status;
}

status_t decode_png(const uint8_t *bytes, size_t n_bytes, struct image *out) {
    int32_t height, width;
    TRY(decode_png_probe(bytes, n_bytes, &height, &width));
    TRY(image_reshape(out, height, width));
    struct reader reader;
    memset(&reader, 0, sizeof reader);
    reader.bytes = bytes;
    reader.n_bytes = n_bytes;
    reader.status = STATUS_BAD_DATA;
    if (setjmp(reader.jump)) {
        if (reader.have_pixels && !reader.message[0]) return finish(&reader, STATUS_OK);
        return finish(&reader, FAIL(reader.status, "PNG: %s", reader.message));
    }
    reader.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning, &reader,
                                          on_malloc, on_free);
    if (reader.png) reader.info = png_create_info_struct(reader.png);
    if (!reader.info) return finish(&reader, FAIL(STATUS_NO_MEMORY, "no memory for reading a PNG"));
    read_file(&reader, out);
    return finish(&reader, STATUS_OK);
}
