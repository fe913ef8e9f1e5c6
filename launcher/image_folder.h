/* Folders of images: their paths, and a folder as a shard, for predictions on pictures that no list names. */
#ifndef LAUNCHER_IMAGE_FOLDER_H
#define LAUNCHER_IMAGE_FOLDER_H

#include "common/status.h"

#include <stddef.h>

struct image_paths {
    char **paths; /* [n] relative to the folder, in the order of their names */
    size_t n, capacity;
};

/* Every image file under `folder` (JPEG, PNG, WebP by their endings, any depth). STATUS_MISSING where there
 * is none or no folder. Fills *out, zeroed before; image_paths_free() in either case. */
status_t image_folder_find(const char *folder, struct image_paths *out);
void image_paths_free(struct image_paths *paths);

/* Pack every image file under `folder` (JPEG, PNG, WebP by their endings, any depth, in the order of their
 * paths) into the shard `path`, labels unknown. Files that cannot be read are named in the log and left out;
 * STATUS_BAD_DATA where none is left, STATUS_MISSING where the folder has none. Not collective. */
status_t image_folder_pack(const char *folder, const char *path);

#endif
