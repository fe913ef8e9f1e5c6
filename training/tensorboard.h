/* TensorBoard event files: RUN/events.out.tfevents.<time>.<host>, TFRecords of Event messages, one a record
 * of metrics.jsonl, with a scalar "stage/name" or "stage/group/name" ("cotrain/convnext/loss") for each of
 * its numbers; of a rank, "stage/ranks/name/3". A null is NaN.
 *
 * A file begins with a SessionLog START at step 0, upon which a reader forgets what older files of the folder
 * said: whoever opens one adds all records again that the run keeps. That way a run that went back to a
 * checkpoint shows each step once, though its stages count their steps alike. */
#ifndef TRAINING_TENSORBOARD_H
#define TRAINING_TENSORBOARD_H

#include "common/status.h"

#include <jansson.h>

struct tensorboard;

/* A new file in `folder`, whatever others are there. Owned by the caller. */
status_t tensorboard_open(const char *folder, struct tensorboard **out);
void tensorboard_close(struct tensorboard *tensorboard); /* NULL is fine */

/* One record of metrics.jsonl, in one write(): a killed run leaves a whole file, or one whose last record is
 * cut, which readers leave out. */
status_t tensorboard_add(struct tensorboard *tensorboard, json_t *record);

#endif
