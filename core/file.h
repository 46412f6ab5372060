/* The .cnn format, version 1 (docs/format.md): constants and the two directions.
 *
 *   magic "\x8F" "CNN", varint version, varint bytes of the head, head = tagged fields, CRC-32C of all so far;
 *   then, when the head refers to it, the data area at the next multiple of 64. */
#ifndef CNN_CORE_FILE_H
#define CNN_CORE_FILE_H

#include "core/bytes.h"
#include "core/file_encoding.h"
#include "core/model.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are copied from and to little-endian files as they are"
#endif

#define CNN_FILE_MAGIC \
    "\x8F"             \
    "CNN"
#define CNN_FILE_MAX_BYTES ((uint64_t)1 << 34)

enum {
    CNN_FILE_MAGIC_BYTES = 4,
    CNN_FILE_VERSION = 1,
    CNN_FILE_MAX_HEAD = 1 << 24,
    CNN_FILE_MAX_TEXT = 1 << 20,
    CNN_FILE_ALIGN = 64,        /* of the data area and of each section in it */
    CNN_FILE_INLINE_BYTES = 64, /* smaller payloads lie in the head */
    CNN_FILE_SMALLEST_INLINE = 1 << 16,
    CNN_FILE_MAX_STREAM = CNN_FILE_MAX_HEAD - (1 << 22) /* leaves room for all other fields */
};

/* Fields of the head, in ascending order, each at most once. A reader skips those below CNN_TAG_REQUIRED that it
 * does not know, and refuses the others. */
typedef enum cnn_file_tag {
    CNN_TAG_NAME = 1,
    CNN_TAG_DATASET = 2,
    CNN_TAG_SPLIT_SEED = 3,
    CNN_TAG_TEXT = 4,
    CNN_TAG_NODE_NAMES = 5,
    CNN_TAG_CLASS_NAMES = 6,
    CNN_TAG_PREPARATION = 7,
    CNN_TAG_AUGMENTATION = 8,
    CNN_TAG_SOFTMAX = 9,
    CNN_TAG_REQUIRED = 64,
    CNN_TAG_GRAPH = 64,
    CNN_TAG_TENSORS = 65,
    CNN_TAG_OUT_SCALES = 66,
    CNN_TAG_NORMALIZATION = 67,
    CNN_TAG_STREAM = 68, /* instead of CNN_TAG_TENSORS and CNN_TAG_OUT_SCALES */
    CNN_TAG_BOOKS = 69,  /* with CNN_TAG_STREAM: it holds ranks of numbers */
    CNN_TAG_LAST = 69,
    CNN_TAG_COUNT = 128
} cnn_file_tag;

enum { CNN_NODE_INPUTS = 1, CNN_NODE_ATTRS = 2, CNN_NODE_FLAG_BITS = 2 }; /* flags of a node */
enum { CNN_SCALE_NONE = 0, CNN_SCALE_F32 = 1, CNN_SCALE_AS_INPUT = 2 };   /* of a node's output */
enum { CNN_NORMALIZATION_CUSTOM = 0, CNN_NORMALIZATION_HALF = 1 };        /* mean 0.5, deviation 0.5 */

/* Flags of a tensor. */
enum {
    CNN_TENSOR_DIMS = 1,
    CNN_TENSOR_SCALES = 2,
    CNN_TENSOR_MASK_BITS = 4,
    CNN_TENSOR_MASK_NONZERO = 8,
    CNN_TENSOR_FLAGS = 15
};

/* dtype and structure numbers in files are those of the enums; these must never change. */
_Static_assert(CNN_F32 == 1 && CNN_F16 == 2 && CNN_BF16 == 3 && CNN_I8 == 4 && CNN_I32 == 5 && CNN_U8 == 6, "format");
_Static_assert(CNN_DENSE == 0 && CNN_BLOCK_16X4 == 1 && CNN_SPARSE_2_4 == 2 && CNN_SPARSE == 3, "format");

typedef struct cnn_file_options {
    cnn_pack pack; /* CNN_PACK_SMALLEST: also no dims, payloads in the head where they fit, or all in a stream */
} cnn_file_options;

/* Bytes that follow the head. */
typedef struct cnn_file_section {
    const void *data;
    size_t bytes;
    size_t offset; /* from the start of the data area */
    void *owned;   /* to free, or NULL */
} cnn_file_section;

/* A file ready to be written: the head with its CRC, then sections, zeros between. It points into the model. */
typedef struct cnn_file_image {
    cnn_bytes head;
    cnn_file_section *sections;
    int section_count;
    size_t data_bytes;
    size_t *node_bytes; /* what each node's tensors take in the head and the data area, without what aligns them */
} cnn_file_image;

cnn_status cnn_file_encode(const cnn_model *model, const cnn_file_options *options, cnn_file_image *image);
size_t cnn_file_image_bytes(const cnn_file_image *image);
void cnn_file_image_free(cnn_file_image *image);

/* The file in fresh memory; free() it. */
cnn_status cnn_file_to_memory(const cnn_model *model, const cnn_file_options *options, uint8_t **data, size_t *size);

/* cnn_model_save with options. */
cnn_status cnn_file_save(const cnn_model *model, const cnn_file_options *options, const char *path, size_t *bytes);

/* Reads a model from bytes in memory; `path` names it in errors. */
cnn_status cnn_file_decode(const uint8_t *data, size_t size, const char *path, cnn_model **model);

/* cnn_model_form of the model in a file, from its head alone; what comes behind that is not looked at. */
cnn_status cnn_file_form(const char *path, cnn_image_form *form);

/* Reads the tensor table: `table` is its field, data_start where the data area would begin. Sets *file_end to where
 * the file must end: 0 when no section was referred to. in_place: large raw values stay in the file's bytes. */
cnn_status cnn_file_read_tensors(cnn_reader *table, size_t size, size_t data_start, bool in_place, cnn_model *model,
                                 size_t *file_end);

/* The name a node has in files that leave it out: "image" for the input, else its type and its number among nodes
 * of that type, from 1: "conv2". */
void cnn_file_default_name(const cnn_model *model, const struct cnn_layer_type *type, int node,
                           char name[CNN_NAME_BYTES]);

/* True when element i of a parameter is 0 (or -0). */
bool cnn_param_is_zero(const cnn_param *param, int64_t i);

/* Values that no model may hold: inf, NaN, i8 weights of -128, scales that are not normal, accumulators that could
 * overflow, masks that do not fit. The error names layer, parameter and element. */
cnn_status cnn_model_check(const cnn_model *model);

#endif
