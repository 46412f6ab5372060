/* Reads IDX files, the format of MNIST: one reader for plain and gzip files, since zlib reads both.
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
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    IDX_MAX_DIMS = 3,
    IDX_TYPE_BYTE = 0x08,
    READ_CHUNK = 1 << 20,
    DEFLATE_MAX_RATIO = 1032 /* deflate cannot expand a byte into more */
};

static const uint64_t idx_max_bytes = (uint64_t)1 << 31;

typedef struct idx_stream {
    const char *path;
    gzFile gz;
    uint64_t disk_bytes; /* size of the file as it lies there */
    uint64_t offset;     /* uncompressed bytes read so far */
} idx_stream;

static cnn_status stream_open(idx_stream *stream, const char *path)
{
    cnn_status status = CNN_OK;
    struct stat info;
    *stream = (idx_stream){.path = path};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        CNN_FAIL(CNN_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0)
        CNN_FAIL(CNN_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        CNN_FAIL(CNN_ERR_IO, "%s: is not a regular file", path);
    stream->disk_bytes = (uint64_t)info.st_size;
    stream->gz = gzdopen(fd, "rb");
    if (!stream->gz)
        CNN_FAIL(CNN_ERR_MEMORY, "%s: out of memory while opening it", path);
    fd = -1; /* gzclose closes it */
    gzbuffer(stream->gz, 1 << 17);
out:
    if (fd >= 0)
        close(fd);
    return status;
}

/* Why the last read gave less than was asked for; `total` is what the file should hold, 0 when unknown. */
static cnn_status stream_short(const idx_stream *stream, uint64_t total)
{
    int code;
    const char *text = gzerror(stream->gz, &code);
    unsigned long long at = stream->offset;
    if (code == Z_ERRNO)
        return cnn_error(CNN_ERR_IO, "%s: cannot be read at byte %llu: %s", stream->path, at, strerror(errno));
    if (code != Z_OK && code != Z_BUF_ERROR && code != Z_STREAM_END)
        return cnn_error(CNN_ERR_FORMAT, "%s: damaged gzip data at byte %llu (%s); get the file again", stream->path,
                         at, text);
    if (total == 0)
        return cnn_error(CNN_ERR_FORMAT, "%s: ends at byte %llu, inside its header; get the file again", stream->path,
                         at);
    return cnn_error(CNN_ERR_FORMAT, "%s: ends at byte %llu of the %llu that its header promises; get the file again",
                     stream->path, at, (unsigned long long)total);
}

/* Reads exactly `bytes`. */
static cnn_status stream_read(idx_stream *stream, void *dst, size_t bytes, uint64_t total)
{
    uint8_t *to = dst;
    while (bytes > 0) {
        unsigned want = bytes < READ_CHUNK ? (unsigned)bytes : READ_CHUNK;
        int got = gzread(stream->gz, to, want);
        if (got > 0)
            stream->offset += (uint64_t)got;
        if (got < (int)want)
            return stream_short(stream, total);
        to += got;
        bytes -= (size_t)got;
    }
    return CNN_OK;
}

/* Checks that the data end here. Also makes zlib check the gzip checksum. */
static cnn_status stream_end(idx_stream *stream, uint64_t total)
{
    uint8_t byte;
    if (gzread(stream->gz, &byte, 1) == 1)
        return cnn_error(CNN_ERR_FORMAT, "%s: more bytes follow at byte %llu, where its header says it ends",
                         stream->path, (unsigned long long)total);
    int code;
    gzerror(stream->gz, &code);
    return code == Z_OK || code == Z_STREAM_END ? CNN_OK : stream_short(stream, total);
}

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Reads and checks the header. Sizes are limited before anything is allocated for them: no file can make the reader
 * ask for much more memory than it could fill. */
static cnn_status read_header(idx_stream *stream, int dims, int32_t *sizes, uint64_t *data_bytes)
{
    cnn_status status = CNN_OK;
    uint8_t header[4 + 4 * IDX_MAX_DIMS];
    uint64_t product = 1;
    CNN_TRY(stream_read(stream, header, 4, 0));
    uint32_t magic = big_endian(header);
    uint32_t expected = (uint32_t)IDX_TYPE_BYTE << 8 | (uint32_t)dims;
    if (magic != expected)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: starts with 0x%08x at byte 0, but an IDX file of %s starts with 0x%08x",
                 stream->path, (unsigned)magic, dims == 3 ? "images" : "labels", (unsigned)expected);
    CNN_TRY(stream_read(stream, header + 4, (size_t)(4 * dims), 0));
    for (int i = 0; i < dims; i++) {
        uint32_t size = big_endian(header + 4 + 4 * i);
        if (size == 0)
            CNN_FAIL(CNN_ERR_FORMAT, "%s: the size at byte %d is 0", stream->path, 4 + 4 * i);
        product *= size;
        if (product > idx_max_bytes)
            CNN_FAIL(CNN_ERR_FORMAT, "%s: the sizes up to byte %d (%u there) make more than 2 GiB of data",
                     stream->path, 8 + 4 * i, (unsigned)size);
        sizes[i] = (int32_t)size;
    }
    uint64_t holds = gzdirect(stream->gz) ? stream->disk_bytes : stream->disk_bytes * DEFLATE_MAX_RATIO;
    uint64_t total = stream->offset + product;
    if (total > holds)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: ends at byte %llu of the %llu that its header promises; get the file again",
                 stream->path, (unsigned long long)stream->disk_bytes, (unsigned long long)total);
    *data_bytes = product;
out:
    return status;
}

cnn_status cnn_idx_read(const char *path, int dims, int32_t *sizes, uint8_t **data)
{
    cnn_status status = CNN_OK;
    uint8_t *bytes = NULL;
    uint64_t count = 0;
    idx_stream stream;
    CNN_TRY(stream_open(&stream, path));
    CNN_TRY(read_header(&stream, dims, sizes, &count));
    bytes = cnn_calloc((size_t)count, 1);
    if (!bytes) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    uint64_t total = stream.offset + count;
    CNN_TRY(stream_read(&stream, bytes, (size_t)count, total));
    CNN_TRY(stream_end(&stream, total));
    *data = bytes;
    bytes = NULL;
out:
    free(bytes);
    if (stream.gz)
        gzclose(stream.gz);
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
