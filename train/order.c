/* The order of images: a sort by hash, so that any epoch's order can be had without the ones before it. */
#include "train/order.h"

#include "core/hash.h"

#include <stdlib.h>

static int compare_keys(const void *left, const void *right)
{
    const cnn_order_key *a = left, *b = right;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

void cnn_order_epoch(uint64_t seed, int32_t epoch, const int32_t *images, int32_t count, cnn_order_key *keys,
                     int32_t *order)
{
    for (int32_t i = 0; i < count; i++) {
        keys[i].index = images[i];
        keys[i].hash = cnn_hash(seed, CNN_PURPOSE_ORDER, (uint64_t)epoch, (uint64_t)images[i]);
    }
    qsort(keys, (size_t)count, sizeof *keys, compare_keys);
    for (int32_t i = 0; i < count; i++)
        order[i] = keys[i].index;
}
