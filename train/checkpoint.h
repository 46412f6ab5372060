/* The checkpoint file (docs/checkpoint.md): everything that a training run needs to go on bit for bit.
 *
 *   magic "\x8F" "CKP", varint version, varint bytes of the body, body, CRC-32C of all so far;
 *   body: facts, numbers, sizes of the model and of the memories, then these themselves. */
#ifndef CNN_TRAIN_CHECKPOINT_H
#define CNN_TRAIN_CHECKPOINT_H

#include "core/bytes.h"
#include "core/input_file.h"
#include "core/session.h"
#include "train/scaler.h"

#define CNN_CHECKPOINT_MAGIC \
    "\x8F"                   \
    "CKP"

enum {
    CNN_CHECKPOINT_MAGIC_BYTES = 4,
    CNN_CHECKPOINT_VERSION = 1,
    CNN_CHECKPOINT_MAX_FACTS = 64,
    CNN_CHECKPOINT_NAME_BYTES = 64,
    CNN_CHECKPOINT_VALUE_BYTES = 320
};

/* Something that has to be the same in the run that goes on: "--batch", "64". */
typedef struct cnn_fact {
    char name[CNN_CHECKPOINT_NAME_BYTES];
    char value[CNN_CHECKPOINT_VALUE_BYTES];
} cnn_fact;

typedef struct cnn_facts {
    cnn_fact fact[CNN_CHECKPOINT_MAX_FACTS];
    int count;
} cnn_facts;

/* Where a run is: all that the training loop remembers from one step to the next, the device's memories apart. What
 * an epoch and an image are follows from the step: batches and their order depend on nothing else. */
typedef struct cnn_train_point {
    int32_t epochs;      /* whole: trained, validated and reported */
    int64_t step;        /* batches done, those of an epoch that is not whole included */
    double seconds;      /* spent in them */
    double loss_sum;     /* this epoch (between two: the last one): of loss*images ... */
    int64_t loss_images; /* ... over images in steps whose loss was finite */
    double val_accuracy; /* of the last whole epoch; NaN: no images are held out, or no epoch is whole */
    double val_loss;
    cnn_scaler_watch watch;
    cnn_train_state state; /* after the last step */
} cnn_train_point;

/* A checkpoint in memory. Names, model and memories belong to whoever made it. */
typedef struct cnn_checkpoint {
    cnn_facts facts;
    cnn_train_point point; /* state's settings, the fields before `step`, are not stored: reading leaves them 0 */
    const uint8_t *model;  /* a .cnn file: the model after its last whole epoch, or as training found it */
    size_t model_bytes;
    struct {
        char name[CNN_CHECKPOINT_NAME_BYTES];
        const void *data;
        size_t bytes;
    } memory[CNN_SESSION_MAX_KEPT]; /* what cnn_session_kept lists */
    int memory_count;
} cnn_checkpoint;

/* Where the bytes of a file go, in order. */
typedef cnn_status (*cnn_sink_fn)(void *context, const void *data, size_t bytes);

cnn_status cnn_checkpoint_encode(const cnn_checkpoint *checkpoint, cnn_sink_fn sink, void *context);

/* Writes a file: to a temporary one beside it, synced, renamed (core/save.h). */
cnn_status cnn_checkpoint_save(const cnn_checkpoint *checkpoint, const char *path);

/* Reads from bytes in memory, which the checkpoint then points into; `path` names them in errors. Everything is
 * checked but what only the run can know: that the model is one, that the sizes of memories are its sizes. */
cnn_status cnn_checkpoint_decode(const uint8_t *data, size_t size, const char *path, cnn_checkpoint *checkpoint);

/* The same from a file, which must stay open as long as the checkpoint is used. */
cnn_status cnn_checkpoint_load(const char *path, cnn_input_file *file, cnn_checkpoint *checkpoint);

/* Sets *there to whether there is something at `path`, which must then be a checkpoint, or be no regular file: what
 * somebody named by mistake is not to be replaced. */
cnn_status cnn_checkpoint_find(const char *path, bool *there);

#endif
