/* A folder of images as a shard, for predictions on pictures that no list names. */
#ifndef LAUNCHER_IMAGE_FOLDER_H
#define LAUNCHER_IMAGE_FOLDER_H

#include "common/status.h"

/* Pack every image file under `folder` (JPEG, PNG, WebP by their endings, any depth, in the order of their
 * paths) into the shard `path`, labels unknown. Files that cannot be read are named in the log and left out;
 * STATUS_BAD_DATA where none is left, STATUS_MISSING where the folder has none. Not collective. */
status_t image_folder_pack(const char *folder, const char *path);

#endif
