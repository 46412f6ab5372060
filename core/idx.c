/* Reads IDX files, the format of MNIST, plain or gzip.
 *
 *   byte 0, 1  zero
 *   byte 2     element type; 0x08 is unsigned byte
 *   byte 3     number of dimensions
 *   then       one big-endian uint32 a dimension, slowest first
 *   then       the elements, nothing after them
 *
 * Offsets in errors count uncompressed bytes. */
#include "core/dataset.h"

#include "core/error.h"
#include "core/gz_file.h"
#include "core/memory.h"

#include <stdio.h>
#include <stdlib.h>

enum { IDX_MAX_DIMS = 3, IDX_TYPE_BYTE = 0x08 };

static const uint64_t idx_max_bytes = (uint64_t)1 << 31;

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Reads and checks the header. Sizes are limited before anything is allocated for them: no file can make the reader
 * ask for much more memory than it could fill. */
static cnn_status read_header(cnn_gz_file *file, int dims, int32_t *sizes, uint64_t *data_bytes)
{
    cnn_status status = CNN_OK;
    uint8_t header[4 + 4 * IDX_MAX_DIMS];
    uint64_t product = 1;
    CNN_TRY(cnn_gz_read(file, header, 4, 0));
    uint32_t magic = big_endian(header);
    uint32_t expected = (uint32_t)IDX_TYPE_BYTE << 8 | (uint32_t)dims;
    if (magic != expected)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: starts with 0x%08x at byte 0, but an IDX file of %s starts with 0x%08x",
                 file->path, (unsigned)magic, dims == 3 ? "images" : "labels", (unsigned)expected);
    CNN_TRY(cnn_gz_read(file, header + 4, (size_t)(4 * dims), 0));
    for (int i = 0; i < dims; i++) {
        uint32_t size = big_endian(header + 4 + 4 * i);
        if (size == 0)
            CNN_FAIL(CNN_ERR_FORMAT, "%s: the size at byte %d is 0", file->path, 4 + 4 * i);
        product *= size;
        if (product > idx_max_bytes)
            CNN_FAIL(CNN_ERR_FORMAT, "%s: the sizes up to byte %d (%u there) make more than 2 GiB of data", file->path,
                     8 + 4 * i, (unsigned)size);
        sizes[i] = (int32_t)size;
    }
    uint64_t total = file->offset + product;
    if (total > cnn_gz_most(file))
        CNN_FAIL(CNN_ERR_FORMAT, "%s: ends at byte %llu of the %llu that its header promises; get the file again",
                 file->path, (unsigned long long)file->disk_bytes, (unsigned long long)total);
    *data_bytes = product;
out:
    return status;
}

cnn_status cnn_idx_read(const char *path, int dims, int32_t *sizes, uint8_t **data)
{
    cnn_status status = CNN_OK;
    uint8_t *bytes = NULL;
    uint64_t count = 0;
    cnn_gz_file file;
    CNN_TRY(cnn_gz_open(&file, path));
    CNN_TRY(read_header(&file, dims, sizes, &count));
    bytes = cnn_calloc((size_t)count, 1);
    if (!bytes) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    uint64_t total = file.offset + count;
    CNN_TRY(cnn_gz_read(&file, bytes, count, total));
    CNN_TRY(cnn_gz_end(&file, total));
    *data = bytes;
    bytes = NULL;
out:
    free(bytes);
    cnn_gz_close(&file);
    return status;
}

/* Labels start after magic and count. */
enum { LABELS_OFFSET = 8 };

static cnn_status check_labels(const char *path, const cnn_dataset *dataset)
{
    for (int32_t i = 0; i < dataset->count; i++)
        if (dataset->labels[i] >= dataset->classes)
            return cnn_error(CNN_ERR_FORMAT, "%s: label %d at byte %d, but the classes are 0 to %d", path,
                             dataset->labels[i], LABELS_OFFSET + i, dataset->classes - 1);
    return CNN_OK;
}

cnn_status cnn_idx_load(const char *images_path, const char *labels_path, cnn_dataset *dataset)
{
    cnn_status status = CNN_OK;
    int32_t sizes[3], labels;
    CNN_TRY(cnn_idx_read(images_path, 3, sizes, &dataset->images));
    CNN_TRY(cnn_idx_read(labels_path, 1, &labels, &dataset->labels));
    if (labels != sizes[0])
        CNN_FAIL(CNN_ERR_FORMAT, "%s: %d labels (at byte 4), but %s holds %d images (at byte 4)", labels_path, labels,
                 images_path, sizes[0]);
    dataset->count = sizes[0];
    dataset->height = sizes[1];
    dataset->width = sizes[2];
    dataset->channels = 1;
    CNN_TRY(check_labels(labels_path, dataset));
out:
    if (status != CNN_OK) {
        free(dataset->images);
        free(dataset->labels);
        dataset->images = dataset->labels = NULL;
    }
    return status;
}

/* ---- Their names ---- */

/* [subset][images, labels] */
static const char *const stems[2][2] = {{"train-images", "train-labels"}, {"t10k-images", "t10k-labels"}};
static const char *const kinds[2] = {"idx3-ubyte", "idx1-ubyte"};

/* Either file may be called train-images-idx3-ubyte or train-images.idx3-ubyte, with or without .gz. */
static cnn_status look_in(const char *folder, cnn_subset subset, cnn_dataset_files *files)
{
    cnn_status status = CNN_OK;
    cnn_dataset_files found = {0};
    for (int kind = 0; kind < 2; kind++)
        for (int form = 0; form < 4 && !found.path[kind]; form++) {
            char name[64];
            snprintf(name, sizeof name, "%s%s%s%s", stems[subset == CNN_SUBSET_TEST][kind], form & 1 ? "." : "-",
                     kinds[kind], form & 2 ? ".gz" : "");
            CNN_TRY(cnn_dataset_find_file(folder, name, &found.path[kind]));
        }
    if (found.path[0] && found.path[1]) {
        *files = found;
        found = (cnn_dataset_files){0};
    }
out:
    cnn_dataset_files_free(&found);
    return status;
}

const cnn_dataset_layout cnn_idx_layout = {
    .wanted = {"train-images-idx3-ubyte and train-labels-idx1-ubyte (plain or .gz)",
               "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (plain or .gz)"},
    .look_in = look_in,
};
