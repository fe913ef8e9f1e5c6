/* SSDA text lists: one `relative/path label` a line. The label is the last word, so paths may contain spaces.
 * Blank lines, CRLF and a byte order mark are accepted. */
#ifndef DATA_SHARDS_LIST_H
#define DATA_SHARDS_LIST_H

#include "common/status.h"

#include <stddef.h>
#include <stdint.h>

struct list_entry {
    const char *id; /* relative path */
    int32_t label;  /* -1: unknown */
    uint32_t line;  /* from 1 */
};

struct image_list {
    char *name; /* the file, for messages */
    struct list_entry *entries;
    size_t n_entries;
    char *text; /* what the ids point into */
};

/* Read and parse a list file. STATUS_MISSING; STATUS_BAD_DATA with "FILE:LINE: what" of the first faulty line
 * and the number of further ones. A line is faulty that has no path or no label, a label that is no integer
 * >= -1, an absolute path, a NUL byte, or a path that an earlier line has with another label. A path repeated
 * with the same label is kept once. An empty list is an error. */
status_t list_read(const char *path, struct image_list *out);

/* The same from memory; `name` stands for the file in messages. */
status_t list_parse(const char *name, const char *bytes, size_t n_bytes, struct image_list *out);

void list_free(struct image_list *list); /* accepts a zeroed struct */

/* Number of ids of `a` that are also in `b`. */
status_t list_overlap(const struct image_list *a, const struct image_list *b, size_t *n_out);

/* What a list is for, by its file name as the SSDA literature writes it (labeled_target_images_pen_3.txt). */
enum list_role { LIST_OTHER, LIST_SOURCE, LIST_LABELLED, LIST_UNLABELLED, LIST_VALIDATION };
struct list_kind {
    enum list_role role;
    int32_t n_shots; /* 0: none in the name */
};
struct list_kind list_kind_of(const char *path);

/* Log a warning for every pair of lists that are used together and overlap: validation or labelled images
 * inside an unlabelled list of the same number of shots, labelled images that are also validation images.
 * Published lists have such overlaps; they are reported, not repaired. *n_pairs_out (may be NULL): how many
 * pairs overlap. */
status_t list_report_overlaps(const struct image_list *lists, size_t n_lists, size_t *n_pairs_out);

#endif
