/* Writing and reading checkpoint files. A file may come from a stranger: nothing in it is used before it was checked.
 */
#include "train/checkpoint.h"

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file.h"
#include "core/save.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- The numbers ---- */

typedef enum number_kind { NUMBER_I32, NUMBER_I64, NUMBER_F32, NUMBER_F64 } number_kind;

typedef struct number_row {
    const char *name;
    number_kind kind;
    bool any;      /* NaN and infinities are allowed as well */
    size_t offset; /* in cnn_train_point */
    double min, max;
} number_row;

#define POINT(field) offsetof(cnn_train_point, field)
#define MOST_STEPS ((double)INT32_MAX)
#define MOST_IMAGES 9007199254740992.0 /* 2^53 */
#define MOST 1e300
#define SMALLEST_SCALE 1e-45 /* above 0 */
#define LARGEST_SCALE 3e38

/* Every field of a cnn_train_point that a step changes, in the order of the file. */
static const number_row numbers[] = {
    {"the number of whole epochs", NUMBER_I32, false, POINT(epochs), 0, MOST_STEPS},
    {"the number of steps", NUMBER_I64, false, POINT(step), 0, MOST_STEPS},
    {"the seconds so far", NUMBER_F64, false, POINT(seconds), 0, MOST},
    {"the sum of losses", NUMBER_F64, false, POINT(loss_sum), -MOST, MOST},
    {"the number of images with a loss", NUMBER_I64, false, POINT(loss_images), 0, MOST_IMAGES},
    {"the validation accuracy", NUMBER_F64, true, POINT(val_accuracy), 0, 1},
    {"the validation loss", NUMBER_F64, true, POINT(val_loss), -MOST, MOST},
    {"the scale of the next step", NUMBER_F32, false, POINT(watch.scale), SMALLEST_SCALE, LARGEST_SCALE},
    {"the number of skipped steps", NUMBER_I32, false, POINT(watch.skipped), 0, MOST_STEPS},
    {"the number of overflows in a row", NUMBER_I32, false, POINT(watch.stuck), 0, MOST_STEPS},
    {"the number of updates", NUMBER_I32, false, POINT(state.step), 0, MOST_STEPS},
    {"the loss scale", NUMBER_F32, false, POINT(state.loss_scale), SMALLEST_SCALE, LARGEST_SCALE},
    {"the overflow flag", NUMBER_I32, false, POINT(state.found_nonfinite), 0, 1},
    {"the number of clean steps", NUMBER_I32, false, POINT(state.clean_steps), 0, MOST_STEPS},
    {"the number of overflows in a row", NUMBER_I32, false, POINT(state.overflows_in_row), 0, MOST_STEPS},
    {"the number of skipped steps", NUMBER_I32, false, POINT(state.skipped), 0, MOST_STEPS},
    {"the first overflow's place", NUMBER_I32, false, POINT(state.first_overflow), -1, INT32_MAX},
    {"the last overflow's place", NUMBER_I32, false, POINT(state.last_overflow), -1, INT32_MAX},
    {"the lowest loss scale", NUMBER_F32, false, POINT(state.scale_min), SMALLEST_SCALE, LARGEST_SCALE},
    {"the highest loss scale", NUMBER_F32, false, POINT(state.scale_max), SMALLEST_SCALE, LARGEST_SCALE},
    {"the gradients' sum of squares", NUMBER_F64, true, POINT(state.grad_sumsq), 0, MOST},
};
enum { NUMBER_COUNT = sizeof numbers / sizeof *numbers };

/* Settings end where `step` begins; everything from there on needs a row above. */
_Static_assert(sizeof(cnn_train_state) - offsetof(cnn_train_state, step) == 52,
               "a new field of the training state needs a row in `numbers`; then put this number right");

static void put_number(cnn_bytes *bytes, const number_row *row, const cnn_train_point *point)
{
    const char *at = (const char *)point + row->offset;
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    switch (row->kind) {
    case NUMBER_I32:
        memcpy(&i32, at, sizeof i32);
        cnn_bytes_put_zigzag(bytes, i32);
        break;
    case NUMBER_I64:
        memcpy(&i64, at, sizeof i64);
        cnn_bytes_put_zigzag(bytes, i64);
        break;
    case NUMBER_F32:
        memcpy(&f32, at, sizeof f32);
        cnn_bytes_put_f32(bytes, f32);
        break;
    case NUMBER_F64:
        memcpy(&f64, at, sizeof f64);
        cnn_bytes_put_f64(bytes, f64);
        break;
    }
}

static void read_number(cnn_reader *reader, const number_row *row, cnn_train_point *point)
{
    char *at = (char *)point + row->offset;
    const size_t start = reader->at;
    int64_t i64 = 0;
    float f32 = 0;
    double value = 0;
    if (row->kind == NUMBER_F32)
        value = f32 = cnn_reader_f32(reader, row->name);
    else if (row->kind == NUMBER_F64)
        value = cnn_reader_f64(reader, row->name);
    else
        value = (double)(i64 = cnn_reader_zigzag(reader, row->name));
    if (!reader->failed && !(value >= row->min && value <= row->max) && !(row->any && !isfinite(value))) {
        reader->at = start;
        cnn_reader_fail(reader, "%s is %g; the file is damaged", row->name, value);
    }
    if (reader->failed)
        return;
    if (row->kind == NUMBER_I32)
        memcpy(at, &(int32_t){(int32_t)i64}, sizeof(int32_t));
    else if (row->kind == NUMBER_I64)
        memcpy(at, &i64, sizeof i64);
    else if (row->kind == NUMBER_F32)
        memcpy(at, &f32, sizeof f32);
    else
        memcpy(at, &value, sizeof value);
}

/* ---- Writing ---- */

static void put_text(cnn_bytes *bytes, const char *text)
{
    cnn_bytes_put_varint(bytes, strlen(text));
    cnn_bytes_put(bytes, text, strlen(text));
}

/* All of the body but the model and the memories. */
static void put_head(cnn_bytes *bytes, const cnn_checkpoint *checkpoint)
{
    cnn_bytes_put_varint(bytes, (uint64_t)checkpoint->facts.count);
    for (int i = 0; i < checkpoint->facts.count; i++) {
        put_text(bytes, checkpoint->facts.fact[i].name);
        put_text(bytes, checkpoint->facts.fact[i].value);
    }
    cnn_bytes_put_varint(bytes, NUMBER_COUNT);
    for (int i = 0; i < NUMBER_COUNT; i++)
        put_number(bytes, &numbers[i], &checkpoint->point);
    cnn_bytes_put_varint(bytes, checkpoint->model_bytes);
    cnn_bytes_put_varint(bytes, (uint64_t)checkpoint->memory_count);
    for (int i = 0; i < checkpoint->memory_count; i++) {
        put_text(bytes, checkpoint->memory[i].name);
        cnn_bytes_put_varint(bytes, checkpoint->memory[i].bytes);
    }
}

/* A sink that also keeps the checksum. */
typedef struct sum_sink {
    cnn_sink_fn sink;
    void *context;
    uint32_t crc;
} sum_sink;

static cnn_status pour(sum_sink *to, const void *data, size_t bytes)
{
    to->crc = cnn_crc32c(to->crc, data, bytes);
    return to->sink(to->context, data, bytes);
}

cnn_status cnn_checkpoint_encode(const cnn_checkpoint *checkpoint, cnn_sink_fn sink, void *context)
{
    cnn_status status = CNN_OK;
    cnn_bytes start = {0}, head = {0}, end = {0};
    sum_sink to = {.sink = sink, .context = context};
    put_head(&head, checkpoint);
    uint64_t body = head.length + checkpoint->model_bytes;
    for (int i = 0; i < checkpoint->memory_count; i++)
        body += checkpoint->memory[i].bytes;
    cnn_bytes_put(&start, CNN_CHECKPOINT_MAGIC, CNN_CHECKPOINT_MAGIC_BYTES);
    cnn_bytes_put_varint(&start, CNN_CHECKPOINT_VERSION);
    cnn_bytes_put_varint(&start, body);
    if (start.failed || head.failed)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(pour(&to, start.data, start.length));
    CNN_TRY(pour(&to, head.data, head.length));
    CNN_TRY(pour(&to, checkpoint->model, checkpoint->model_bytes));
    for (int i = 0; i < checkpoint->memory_count; i++)
        CNN_TRY(pour(&to, checkpoint->memory[i].data, checkpoint->memory[i].bytes));
    cnn_bytes_put_u32(&end, to.crc);
    CNN_TRY(end.failed ? CNN_ERR_MEMORY : pour(&to, end.data, end.length));
out:
    cnn_bytes_free(&start);
    cnn_bytes_free(&head);
    cnn_bytes_free(&end);
    return status;
}

static cnn_status save_sink(void *save, const void *data, size_t bytes)
{
    return cnn_save_write(save, data, bytes);
}

cnn_status cnn_checkpoint_save(const cnn_checkpoint *checkpoint, const char *path)
{
    cnn_status status = CNN_OK;
    cnn_save save = {.fd = -1};
    CNN_TRY(cnn_save_begin(&save, path));
    CNN_TRY(cnn_checkpoint_encode(checkpoint, save_sink, &save));
    CNN_TRY(cnn_save_commit(&save));
out:
    cnn_save_abort(&save);
    return status;
}

/* ---- Reading ---- */

static cnn_status foreign(const char *path)
{
    return cnn_error(CNN_ERR_FORMAT,
                     "%s: byte 0: is not a checkpoint of cnn-train; name another file, or move this one away", path);
}

/* Sets the reader to the body, which is whole then. */
static cnn_status open_body(cnn_reader *reader, const uint8_t *data, size_t size, const char *path)
{
    cnn_status status = CNN_OK;
    *reader = (cnn_reader){.data = data, .at = CNN_CHECKPOINT_MAGIC_BYTES, .end = size, .path = path};
    if (size < CNN_CHECKPOINT_MAGIC_BYTES || memcmp(data, CNN_CHECKPOINT_MAGIC, CNN_CHECKPOINT_MAGIC_BYTES) != 0)
        CNN_TRY(foreign(path));
    uint64_t version = cnn_reader_varint(reader, UINT64_MAX, "the format version");
    CNN_TRY(cnn_reader_status(reader));
    if (version != CNN_CHECKPOINT_VERSION)
        CNN_FAIL(CNN_ERR_FORMAT,
                 "%s: byte %d: is in format version %llu, but this cnnkit %s reads version %d; go on with the cnnkit "
                 "that wrote it, or leave out --resume to start anew",
                 path, CNN_CHECKPOINT_MAGIC_BYTES, (unsigned long long)version, cnn_version(), CNN_CHECKPOINT_VERSION);
    uint64_t bytes = cnn_reader_varint(reader, CNN_FILE_MAX_BYTES, "the length of the body");
    CNN_TRY(cnn_reader_status(reader));
    const uint64_t wanted = (uint64_t)reader->at + bytes + 4;
    if (size != wanted)
        CNN_FAIL(CNN_ERR_FORMAT,
                 "%s: has %zu bytes, not %llu: it is %s; copy it again, or leave out --resume to start anew", path,
                 size, (unsigned long long)wanted, size < wanted ? "truncated" : "damaged");
    reader->end = size - 4;
    cnn_reader sum = {.data = data, .at = reader->end, .end = size, .path = path};
    if (cnn_reader_u32(&sum, "the checksum") != cnn_crc32c(0, data, reader->end))
        CNN_FAIL(CNN_ERR_FORMAT,
                 "%s: byte %zu: the checksum does not match: the file is damaged; copy it again, or leave out --resume "
                 "to start anew",
                 path, reader->end);
out:
    return status;
}

/* Text of 1 to most - 1 bytes that may go to a terminal. */
static void read_text(cnn_reader *reader, char *text, size_t most, const char *what)
{
    const size_t start = reader->at;
    const size_t length = (size_t)cnn_reader_varint(reader, most - 1, what);
    const uint8_t *bytes = cnn_reader_take(reader, length, what);
    if (!bytes)
        return;
    memcpy(text, bytes, length);
    text[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if (bytes[i] < 0x20 || bytes[i] == 0x7F) {
            reader->at = start;
            cnn_reader_fail(reader, "%s holds the control character 0x%02X", what, bytes[i]);
            return;
        }
    if (length == 0) {
        reader->at = start;
        cnn_reader_fail(reader, "%s is empty", what);
    }
}

static void read_facts(cnn_reader *reader, cnn_facts *facts)
{
    facts->count = (int)cnn_reader_varint(reader, CNN_CHECKPOINT_MAX_FACTS, "the number of facts");
    for (int i = 0; i < facts->count && !reader->failed; i++) {
        read_text(reader, facts->fact[i].name, sizeof facts->fact[i].name, "the name of a fact");
        read_text(reader, facts->fact[i].value, sizeof facts->fact[i].value, "a fact");
    }
}

static void read_numbers(cnn_reader *reader, cnn_train_point *point)
{
    const size_t start = reader->at;
    const uint64_t count = cnn_reader_varint(reader, UINT64_MAX, "the number of numbers");
    if (!reader->failed && count != NUMBER_COUNT) {
        reader->at = start;
        cnn_reader_fail(reader, "holds %llu numbers, not %d; go on with the cnnkit that wrote it",
                        (unsigned long long)count, NUMBER_COUNT);
    }
    for (int i = 0; i < NUMBER_COUNT && !reader->failed; i++)
        read_number(reader, &numbers[i], point);
}

/* The sizes of model and memories, then where they lie. */
static void read_memories(cnn_reader *reader, cnn_checkpoint *checkpoint)
{
    checkpoint->model_bytes = (size_t)cnn_reader_varint(reader, CNN_FILE_MAX_BYTES, "the length of the model");
    checkpoint->memory_count = (int)cnn_reader_varint(reader, CNN_SESSION_MAX_KEPT, "the number of memories");
    for (int i = 0; i < checkpoint->memory_count && !reader->failed; i++) {
        read_text(reader, checkpoint->memory[i].name, sizeof checkpoint->memory[i].name, "the name of a memory");
        checkpoint->memory[i].bytes = (size_t)cnn_reader_varint(reader, CNN_FILE_MAX_BYTES, "the length of a memory");
    }
    checkpoint->model = cnn_reader_take(reader, checkpoint->model_bytes, "the model");
    for (int i = 0; i < checkpoint->memory_count; i++)
        checkpoint->memory[i].data = cnn_reader_take(reader, checkpoint->memory[i].bytes, "a memory");
    if (!reader->failed && reader->at != reader->end)
        cnn_reader_fail(reader, "the body ends here, but %zu more bytes follow; the file is damaged",
                        reader->end - reader->at);
}

cnn_status cnn_checkpoint_decode(const uint8_t *data, size_t size, const char *path, cnn_checkpoint *checkpoint)
{
    cnn_reader reader;
    *checkpoint = (cnn_checkpoint){0};
    cnn_status status = open_body(&reader, data, size, path);
    if (status != CNN_OK)
        return status;
    read_facts(&reader, &checkpoint->facts);
    read_numbers(&reader, &checkpoint->point);
    read_memories(&reader, checkpoint);
    return cnn_reader_status(&reader);
}

cnn_status cnn_checkpoint_load(const char *path, cnn_input_file *file, cnn_checkpoint *checkpoint)
{
    cnn_status status = cnn_input_open(file, path, "a checkpoint of cnn-train", CNN_FILE_MAX_BYTES);
    return status == CNN_OK ? cnn_checkpoint_decode(file->data, file->size, path, checkpoint) : status;
}

cnn_status cnn_checkpoint_find(const char *path, bool *there)
{
    char magic[CNN_CHECKPOINT_MAGIC_BYTES];
    struct stat info;
    *there = stat(path, &info) == 0;
    if (!*there && errno != ENOENT && errno != ENOTDIR)
        return cnn_error(CNN_ERR_IO, "%s: cannot look at it: %s", path, strerror(errno));
    if (!*there || !S_ISREG(info.st_mode))
        return CNN_OK;
    FILE *file = fopen(path, "rb");
    if (!file)
        return cnn_error(CNN_ERR_IO, "%s: cannot read it: %s; make it readable or name another file", path,
                         strerror(errno));
    const size_t bytes = fread(magic, 1, sizeof magic, file);
    fclose(file);
    return bytes == sizeof magic && memcmp(magic, CNN_CHECKPOINT_MAGIC, sizeof magic) == 0 ? CNN_OK : foreign(path);
}
