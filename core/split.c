/* The stratified split of a data set into training and validation images. */
#include "core/dataset.h"

#include "core/error.h"
#include "core/hash.h"
#include "core/memory.h"

#include <stdlib.h>

enum { MAX_CLASSES = 256, MAX_VALIDATION = 5000 };

typedef struct ranked {
    uint8_t label;
    uint64_t hash;
    int32_t index;
} ranked;

/* By class, in each by hash. */
static int by_rank(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Shares `total` among classes in proportion to their sizes: each gets the whole part, and what is left goes one by
 * one to the largest remainders, the lower class first. quota: [MAX_CLASSES] */
static void share(const int32_t *sizes, int32_t count, int32_t total, int32_t *quota)
{
    int64_t rest[MAX_CLASSES];
    int32_t left = total;
    for (int c = 0; c < MAX_CLASSES; c++) {
        int64_t exact = (int64_t)total * sizes[c];
        quota[c] = (int32_t)(exact / count);
        rest[c] = exact % count;
        left -= quota[c];
    }
    for (; left > 0; left--) {
        int best = 0;
        for (int c = 1; c < MAX_CLASSES; c++)
            if (rest[c] > rest[best])
                best = c;
        quota[best]++;
        rest[best] = -1;
    }
}

/* Marks the images that are held out. held: [count], zeroed */
static cnn_status mark(const cnn_dataset *dataset, uint64_t seed, int32_t total, uint8_t *held)
{
    int32_t sizes[MAX_CLASSES] = {0}, quota[MAX_CLASSES];
    ranked *order = cnn_calloc((size_t)dataset->count, sizeof *order);
    if (!order)
        return CNN_ERR_MEMORY;
    for (int32_t i = 0; i < dataset->count; i++) {
        order[i] = (ranked){dataset->labels[i], cnn_hash(seed, CNN_PURPOSE_SPLIT, (uint64_t)i, 0), i};
        sizes[dataset->labels[i]]++;
    }
    qsort(order, (size_t)dataset->count, sizeof *order, by_rank);
    share(sizes, dataset->count, total, quota);
    for (int32_t c = 0, first = 0; c < MAX_CLASSES; first += sizes[c], c++)
        for (int32_t i = 0; i < quota[c]; i++)
            held[order[first + i].index] = 1;
    free(order);
    return CNN_OK;
}

cnn_status cnn_dataset_split(const cnn_dataset *dataset, uint64_t seed, cnn_split *split)
{
    cnn_status status = CNN_OK;
    int32_t count = dataset->count;
    int32_t total = count / 10 < MAX_VALIDATION ? count / 10 : MAX_VALIDATION;
    cnn_split made = {0};
    uint8_t *held = NULL;
    if (count < 1)
        CNN_FAIL(CNN_ERR_USAGE, "a data set without images cannot be split");
    held = cnn_calloc((size_t)count, 1);
    made.train = cnn_calloc((size_t)(count - total), sizeof *made.train);
    made.validation = cnn_calloc((size_t)total, sizeof *made.validation);
    if (!held || !made.train || !made.validation) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    CNN_TRY(mark(dataset, seed, total, held));
    for (int32_t i = 0; i < count; i++)
        if (held[i])
            made.validation[made.validation_count++] = i;
        else
            made.train[made.train_count++] = i;
    *split = made;
    made = (cnn_split){0};
out:
    free(held);
    cnn_split_free(&made);
    return status;
}

cnn_status cnn_split_train_on_all(cnn_split *split)
{
    const int32_t count = split->train_count + split->validation_count;
    int32_t *all = cnn_calloc((size_t)count, sizeof *all);
    if (!all)
        return CNN_ERR_MEMORY;
    for (int32_t i = 0; i < count; i++)
        all[i] = i;
    free(split->train);
    split->train = all;
    split->train_count = count;
    return CNN_OK;
}

void cnn_split_free(cnn_split *split)
{
    free(split->train);
    free(split->validation);
    *split = (cnn_split){0};
}
