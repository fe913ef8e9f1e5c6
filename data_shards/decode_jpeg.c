/* JPEG through libjpeg-turbo. */
#include "common/memory.h"
#include "data_shards/decode_formats.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

enum {
    PIXELS_PER_BYTE = 1024, /* one bit a block of the finest possible file: 341 */
    MAX_SCANS = 500,        /* a file of a few kB can ask for any number of passes over a huge image */
    ROWS_A_CALL = 16,
};

/* All state of one decoding; in memory, so that it survives longjmp. */
struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    status_t status;
    char message[JMSG_LENGTH_MAX];
};

static void fail(struct reader *reader, status_t status, const char *message) {
    reader->status = status;
    snprintf(reader->message, sizeof reader->message, "%s", message);
    longjmp(reader->jump, 1);
}

static void on_error(j_common_ptr common) {
    struct reader *reader = common->client_data;
    char message[JMSG_LENGTH_MAX];
    common->err->format_message(common, message);
    fail(reader, common->err->msg_code == JERR_OUT_OF_MEMORY ? STATUS_NO_MEMORY : STATUS_BAD_DATA, message);
}

/* Warnings about damaged data are passed over as Pillow does, but not that the data have come to an end,
 * where libjpeg would fill the rest with grey. */
static void on_message(j_common_ptr common, int level) {
    if (level < 0 && common->err->msg_code == JWRN_JPEG_EOF)
        fail(common->client_data, STATUS_BAD_DATA, "the file ends early");
}

static void on_progress(j_common_ptr common) {
    struct reader *reader = common->client_data;
    if (reader->jpeg.input_scan_number > MAX_SCANS) fail(reader, STATUS_BAD_DATA, "more than 500 scans");
}

static void ignore_output(j_common_ptr common) {
    (void)common;
}

/* Ready to read a header; errors jump to reader->jump. */
static void start(struct reader *reader, const uint8_t *bytes, size_t n_bytes) {
    reader->jpeg.err = jpeg_std_error(&reader->errors);
    reader->errors.error_exit = on_error;
    reader->errors.emit_message = on_message;
    reader->errors.output_message = ignore_output;
    reader->jpeg.client_data = reader;
    jpeg_create_decompress(&reader->jpeg);
    reader->progress.progress_monitor = on_progress;
    reader->jpeg.progress = &reader->progress;
    jpeg_mem_src(&reader->jpeg, bytes, n_bytes);
    jpeg_read_header(&reader->jpeg, TRUE);
}

static status_t finish(struct reader *reader, status_t status) {
    jpeg_destroy_decompress(&reader->jpeg);
    return status;
}

static status_t failed(struct reader *reader) {
    return finish(reader, FAIL(reader->status, "JPEG: %s", reader->message));
}

static status_t check_sides(const struct jpeg_decompress_struct *jpeg, size_t n_bytes) {
    return decode_check_sides(jpeg->image_height, jpeg->image_width, n_bytes, PIXELS_PER_BYTE);
}

status_t decode_jpeg_probe(const uint8_t *bytes, size_t n_bytes, int32_t *height, int32_t *width) {
    struct reader reader;
    memset(&reader.jpeg, 0, sizeof reader.jpeg);
    if (setjmp(reader.jump)) return failed(&reader);
    start(&reader, bytes, n_bytes);
    status_t status = check_sides(&reader.jpeg, n_bytes);
    if (status == STATUS_OK) {
        *height = (int32_t)reader.jpeg.image_height;
        *width = (int32_t)reader.jpeg.image_width;
    }
    return finish(&reader, status);
}

/* round(a * b / 255) as Pillow does it. */
static inline uint8_t mul_div_255(uint32_t a, uint32_t b) {
    const uint32_t product = a * b + 128;
    return (uint8_t)((product + (product >> 8)) >> 8);
}

/* n pixels of inverted inks (Adobe's convention, which Pillow assumes always) -> RGB. */
static void inks_to_rgb(const uint8_t *cmyk, int32_t n, uint8_t *rgb) {
    for (int32_t i = 0; i < n; i++)
        for (int32_t c = 0; c < 3; c++) {
            const uint32_t light = cmyk[4 * i + 3];
            rgb[3 * i + c] = (uint8_t)(light - mul_div_255(255u - cmyk[4 * i + c], light));
        }
}

static void read_rows(struct jpeg_decompress_struct *jpeg, struct image *out) {
    const size_t row_bytes = 3 * (size_t)out->width;
    while (jpeg->output_scanline < jpeg->output_height) {
        const JDIMENSION n_left = jpeg->output_height - jpeg->output_scanline;
        const JDIMENSION n_rows = n_left < ROWS_A_CALL ? n_left : ROWS_A_CALL;
        JSAMPROW rows[ROWS_A_CALL];
        for (JDIMENSION i = 0; i < n_rows; i++) rows[i] = out->data + (jpeg->output_scanline + i) * row_bytes;
        jpeg_read_scanlines(jpeg, rows, n_rows);
    }
}

static void read_rows_of_inks(struct jpeg_decompress_struct *jpeg, struct image *out) {
    JSAMPARRAY row = jpeg->mem->alloc_sarray((j_common_ptr)jpeg, JPOOL_IMAGE, 4 * jpeg->output_width, 1);
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *to = out->data + 3 * (size_t)out->width * jpeg->output_scanline;
        jpeg_read_scanlines(jpeg, row, 1);
        inks_to_rgb(row[0], out->width, to);
    }
}

status_t decode_jpeg(const uint8_t *bytes, size_t n_bytes, struct image *out) {
    struct reader reader;
    memset(&reader.jpeg, 0, sizeof reader.jpeg);
    if (setjmp(reader.jump)) return failed(&reader);
    start(&reader, bytes, n_bytes);
    struct jpeg_decompress_struct *jpeg = &reader.jpeg;
    status_t status = check_sides(jpeg, n_bytes);
    if (status == STATUS_OK)
        status = image_reshape(out, (int32_t)jpeg->image_height, (int32_t)jpeg->image_width);
    if (status != STATUS_OK) return finish(&reader, status);
    const int n_components = jpeg->num_components;
    if (n_components != 1 && n_components != 3 && n_components != 4)
        return finish(&reader,
                      FAIL(STATUS_BAD_DATA, "JPEG: %d colour components, not 1, 3 or 4", n_components));
    jpeg->out_color_space = n_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(jpeg);
    if (n_components == 4)
        read_rows_of_inks(jpeg, out);
    else
        read_rows(jpeg, out);
    /* What follows the last row is not looked at, as in Pillow: no jpeg_finish_decompress(). */
    return finish(&reader, STATUS_OK);
}
