/* The order in which an epoch visits the training images. */
#ifndef CNN_TRAIN_ORDER_H
#define CNN_TRAIN_ORDER_H

#include "cnn/status.h"

/* An image and where it sorts. */
typedef struct cnn_order_key {
    uint64_t hash;
    int32_t index;
} cnn_order_key;

/* Writes the images of `images` [count] to `order` [count], sorted by hash(seed, epoch, index), equal hashes by
 * index. It depends on nothing else: not on the order of `images`. keys: scratch, [count]. */
void cnn_order_epoch(uint64_t seed, int32_t epoch, const int32_t *images, int32_t count, cnn_order_key *keys,
                     int32_t *order);

#endif
