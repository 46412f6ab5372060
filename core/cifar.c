/* Reads CIFAR-10's binary files, as they are or in their archive.
 *
 * A batch is a file of records: a byte with the label, then 32x32 bytes of red, as many of green and of blue, rows from
 * the top. data_batch_1.bin to data_batch_5.bin are to train, test_batch.bin is the test set, and batches.meta.txt,
 * which may be missing, names the classes, one a line. cifar-10-binary.tar.gz holds all of them.
 *
 * A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. */
#include "core/dataset.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/tar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIDE = 32,
    CHANNELS = 3,
    PLANE = SIDE * SIDE,
    IMAGE = CHANNELS * PLANE,
    RECORD = 1 + IMAGE,
    MOST_BATCHES = 5,
    NAMES_FILE = MOST_BATCHES, /* in cnn_dataset_files.path, behind the batches */
    MOST_NAMES_BYTES = 4096,
    MOST_IMAGES = 1 << 19 /* of a subset: 1.5 GiB */
};

static const char *const training_names[MOST_BATCHES] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                                         "data_batch_4.bin", "data_batch_5.bin"};
static const char *const test_names[MOST_BATCHES] = {"test_batch.bin"};
static const char names_name[] = "batches.meta.txt";
static const char *const archive_names[] = {"cifar-10-binary.tar.gz", "cifar-10-binary.tar"};

static const char *const *names_of(cnn_subset subset)
{
    return subset == CNN_SUBSET_TEST ? test_names : training_names;
}

static int batches_of(cnn_subset subset)
{
    return subset == CNN_SUBSET_TEST ? 1 : MOST_BATCHES;
}

/* ---- A batch ---- */

typedef struct cifar_batch {
    uint8_t *images; /* [count,32,32,3] */
    uint8_t *labels; /* [count] */
    int32_t count;
} cifar_batch;

static void free_batches(cifar_batch *batch)
{
    for (int i = 0; i < MOST_BATCHES; i++) {
        free(batch[i].images);
        free(batch[i].labels);
        batch[i] = (cifar_batch){0};
    }
}

/* planes: [3,32,32]; image: [32,32,3] */
static void interleave(const uint8_t *planes, uint8_t *image)
{
    for (int i = 0; i < PLANE; i++)
        for (int c = 0; c < CHANNELS; c++)
            image[CHANNELS * i + c] = planes[c * PLANE + i];
}

/* Reads the batch `name` of `bytes` bytes, which the file can hold. */
static cnn_status read_batch(cnn_gz_file *file, const char *name, uint64_t bytes, int classes, cifar_batch *batch)
{
    uint8_t record[RECORD];
    const uint64_t start = file->offset;
    if (bytes == 0 || bytes % RECORD != 0)
        return cnn_error(CNN_ERR_FORMAT,
                         "%s: %s has %llu bytes, which are no whole records of %d (a label, then 32x32 pixels as three "
                         "planes); get the file again",
                         file->path, name, (unsigned long long)bytes, RECORD);
    if (bytes / RECORD > MOST_IMAGES)
        return cnn_error(CNN_ERR_FORMAT, "%s: %s holds %llu images; more than %d are not read", file->path, name,
                         (unsigned long long)(bytes / RECORD), MOST_IMAGES);
    batch->count = (int32_t)(bytes / RECORD);
    batch->images = cnn_calloc((size_t)batch->count, IMAGE);
    batch->labels = cnn_calloc((size_t)batch->count, 1);
    if (!batch->images || !batch->labels)
        return CNN_ERR_MEMORY;
    for (int32_t i = 0; i < batch->count; i++) {
        cnn_status status = cnn_gz_read(file, record, RECORD, start + bytes);
        if (status != CNN_OK)
            return status;
        if (record[0] >= classes)
            return cnn_error(CNN_ERR_FORMAT, "%s: label %d at byte %llu of %s, but the classes are 0 to %d", file->path,
                             record[0], (unsigned long long)i * RECORD, name, classes - 1);
        batch->labels[i] = record[0];
        interleave(record + 1, batch->images + (size_t)i * IMAGE);
    }
    return CNN_OK;
}

/* Puts the batches one after the other into the data set, and frees each of them on the way. */
static cnn_status join(cifar_batch *batch, int batches, const char *path, cnn_dataset *dataset)
{
    int64_t count = 0;
    for (int i = 0; i < batches; i++)
        count += batch[i].count;
    if (count > MOST_IMAGES)
        return cnn_error(CNN_ERR_FORMAT, "%s: with the other batches these are %lld images; more than %d are not read",
                         path, (long long)count, MOST_IMAGES);
    dataset->images = cnn_calloc((size_t)count, IMAGE);
    dataset->labels = cnn_calloc((size_t)count, 1);
    if (!dataset->images || !dataset->labels)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < batches; i++) {
        memcpy(dataset->images + (size_t)dataset->count * IMAGE, batch[i].images, (size_t)batch[i].count * IMAGE);
        memcpy(dataset->labels + dataset->count, batch[i].labels, (size_t)batch[i].count);
        dataset->count += batch[i].count;
        free(batch[i].images);
        free(batch[i].labels);
        batch[i] = (cifar_batch){0};
    }
    dataset->height = dataset->width = SIDE;
    dataset->channels = CHANNELS;
    return CNN_OK;
}

/* ---- Names of the classes ---- */

static cnn_status wrong_name(const char *path, int label, const char *name, size_t length, cnn_dataset_id id)
{
    const char *ours = cnn_dataset_class_name(id, label);
    if (!ours)
        return cnn_error(CNN_ERR_FORMAT,
                         "%s: names more classes than %s has, '%.*s' after %d others: these are other data", path,
                         cnn_dataset_name(id), length < 40 ? (int)length : 40, name, label);
    return cnn_error(CNN_ERR_FORMAT, "%s: class %d is called '%.*s', but that of %s '%s': these are other data", path,
                     label, length < 40 ? (int)length : 40, name, cnn_dataset_name(id), ours);
}

/* Checks batches.meta.txt: names other than CIFAR-10's mean that the pictures are others too. Empty lines are passed
 * over. */
static cnn_status read_names(cnn_gz_file *file, uint64_t bytes, const cnn_dataset *dataset)
{
    char text[MOST_NAMES_BYTES + 1] = "";
    int label = 0;
    if (bytes > MOST_NAMES_BYTES)
        return cnn_error(CNN_ERR_FORMAT, "%s: %s has %llu bytes, and a list of ten names fewer than %d", file->path,
                         names_name, (unsigned long long)bytes, MOST_NAMES_BYTES);
    cnn_status status = cnn_gz_read(file, text, bytes, file->offset + bytes);
    if (status != CNN_OK)
        return status;
    for (const char *line = text; *line; line += *line == '\n') {
        size_t length = strcspn(line, "\n"), shown = length && line[length - 1] == '\r' ? length - 1 : length;
        const char *name = cnn_dataset_class_name(dataset->id, label);
        if (shown && (!name || strlen(name) != shown || memcmp(name, line, shown) != 0))
            return wrong_name(file->path, label, line, shown, dataset->id);
        label += shown > 0;
        line += length;
    }
    if (label < dataset->classes)
        return cnn_error(CNN_ERR_FORMAT, "%s: %s names %d classes, and there are %d; get the file again", file->path,
                         names_name, label, dataset->classes);
    return CNN_OK;
}

/* ---- Files and archives ---- */

static cnn_status read_file(const char *path, const char *name, cifar_batch *batch, const cnn_dataset *dataset)
{
    cnn_gz_file file;
    cnn_status status = cnn_gz_open(&file, path);
    if (status == CNN_OK && !cnn_gz_plain(&file))
        status = cnn_error(CNN_ERR_FORMAT, "%s: is compressed by gzip; unpack it", path);
    if (status == CNN_OK)
        status = batch ? read_batch(&file, name, file.disk_bytes, dataset->classes, batch)
                       : read_names(&file, file.disk_bytes, dataset);
    cnn_gz_close(&file);
    return status;
}

static cnn_status read_files(const cnn_dataset_files *files, cnn_subset subset, cifar_batch *batch,
                             const cnn_dataset *dataset)
{
    cnn_status status = CNN_OK;
    if (files->path[NAMES_FILE])
        status = read_file(files->path[NAMES_FILE], names_name, NULL, dataset);
    for (int i = 0; i < batches_of(subset) && status == CNN_OK; i++)
        status = read_file(files->path[i], names_of(subset)[i], &batch[i], dataset);
    return status;
}

/* Reads a member of an archive if it is one of those wanted. */
static cnn_status read_member(cnn_tar *tar, const cnn_tar_member *member, cnn_subset subset, cifar_batch *batch,
                              const cnn_dataset *dataset)
{
    if (!member->is_file)
        return CNN_OK;
    if (strcmp(member->name, names_name) == 0)
        return read_names(&tar->file, member->bytes, dataset);
    for (int i = 0; i < batches_of(subset); i++) {
        if (strcmp(member->name, names_of(subset)[i]) != 0)
            continue;
        if (batch[i].images)
            return cnn_error(CNN_ERR_FORMAT, "%s: holds %s twice; get the file again", tar->file.path, member->name);
        return read_batch(&tar->file, member->name, member->bytes, dataset->classes, &batch[i]);
    }
    return CNN_OK;
}

static cnn_status read_archive(const char *path, cnn_subset subset, cifar_batch *batch, const cnn_dataset *dataset)
{
    cnn_status status = CNN_OK;
    cnn_tar tar;
    cnn_tar_member member;
    bool end = false;
    CNN_TRY(cnn_tar_open(&tar, path));
    for (;;) {
        CNN_TRY(cnn_tar_next(&tar, &member, &end));
        if (end)
            break;
        CNN_TRY(read_member(&tar, &member, subset, batch, dataset));
    }
    for (int i = 0; i < batches_of(subset); i++)
        if (!batch[i].images)
            CNN_FAIL(CNN_ERR_FORMAT, "%s: holds no %s; get the file again", path, names_of(subset)[i]);
out:
    cnn_tar_close(&tar);
    return status;
}

cnn_status cnn_cifar_load(const cnn_dataset_files *files, cnn_subset subset, cnn_dataset *dataset)
{
    cifar_batch batch[MOST_BATCHES] = {{0}};
    cnn_status status = files->archive ? read_archive(files->path[0], subset, batch, dataset)
                                       : read_files(files, subset, batch, dataset);
    if (status == CNN_OK)
        status = join(batch, batches_of(subset), files->path[0], dataset);
    free_batches(batch);
    if (status != CNN_OK) {
        free(dataset->images);
        free(dataset->labels);
        dataset->images = dataset->labels = NULL;
        dataset->count = 0;
    }
    return status;
}

/* The files where all are there, else an archive. */
static cnn_status look_in(const char *folder, cnn_subset subset, cnn_dataset_files *files)
{
    cnn_status status = CNN_OK;
    cnn_dataset_files found = {0};
    int there = 0;
    for (int i = 0; i < batches_of(subset); i++) {
        CNN_TRY(cnn_dataset_find_file(folder, names_of(subset)[i], &found.path[i]));
        there += found.path[i] != NULL;
    }
    if (there == batches_of(subset)) {
        CNN_TRY(cnn_dataset_find_file(folder, names_name, &found.path[NAMES_FILE]));
    } else {
        cnn_dataset_files_free(&found);
        for (size_t i = 0; i < sizeof archive_names / sizeof *archive_names && !found.path[0]; i++)
            CNN_TRY(cnn_dataset_find_file(folder, archive_names[i], &found.path[0]));
        found.archive = true;
    }
    *files = found;
    found = (cnn_dataset_files){0};
out:
    cnn_dataset_files_free(&found);
    return status;
}

const cnn_dataset_layout cnn_cifar_layout = {
    .sub_folder = "cifar-10-batches-bin",
    .wanted = {"data_batch_1.bin to data_batch_5.bin, or cifar-10-binary.tar.gz,",
               "test_batch.bin, or cifar-10-binary.tar.gz,"},
    .look_in = look_in,
};
