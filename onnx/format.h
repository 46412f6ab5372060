/* ONNX files as protobuf messages (onnx/onnx.proto), their numbers and our limits. */
#ifndef CNN_ONNX_FORMAT_H
#define CNN_ONNX_FORMAT_H

#include "cnn/status.h"

#include "onnx.pb-c.h"

typedef CnnOnnx__Model cnn_onnx_file;
typedef CnnOnnx__Graph cnn_onnx_graph;
typedef CnnOnnx__Node cnn_onnx_node;
typedef CnnOnnx__Attribute cnn_onnx_attribute;
typedef CnnOnnx__Tensor cnn_onnx_tensor;
typedef CnnOnnx__ValueInfo cnn_onnx_value_info;
typedef CnnOnnx__Entry cnn_onnx_entry;

/* Types of elements. */
typedef enum cnn_onnx_type {
    CNN_ONNX_FLOAT = 1,
    CNN_ONNX_UINT8 = 2,
    CNN_ONNX_INT8 = 3,
    CNN_ONNX_INT32 = 6,
    CNN_ONNX_INT64 = 7,
    CNN_ONNX_BOOL = 9,
    CNN_ONNX_FLOAT16 = 10,
    CNN_ONNX_DOUBLE = 11,
    CNN_ONNX_BFLOAT16 = 16
} cnn_onnx_type;

/* Types of attributes. */
typedef enum cnn_onnx_attribute_type {
    CNN_ONNX_ATTRIBUTE_FLOAT = 1,
    CNN_ONNX_ATTRIBUTE_INT = 2,
    CNN_ONNX_ATTRIBUTE_STRING = 3,
    CNN_ONNX_ATTRIBUTE_TENSOR = 4,
    CNN_ONNX_ATTRIBUTE_FLOATS = 6,
    CNN_ONNX_ATTRIBUTE_INTS = 7
} cnn_onnx_attribute_type;

enum {
    CNN_ONNX_IR_VERSION = 8, /* what we write */
    CNN_ONNX_OPSET = 17,
    CNN_ONNX_FIRST_OPSET = 7, /* what we read */
    CNN_ONNX_LAST_OPSET = 21,
    CNN_ONNX_MAX_RANK = 8,
    CNN_ONNX_MAX_NODES = 1 << 16,
    CNN_ONNX_MAX_VALUES = 1 << 19, /* names of a graph: inputs, constants, outputs of nodes */
    CNN_ONNX_LOCATION_EXTERNAL = 1 /* of a tensor */
};

#define CNN_ONNX_MAX_BYTES ((uint64_t)INT32_MAX) /* protobuf's own limit */

/* What else a cnnkit model knows of its data, as notes of the file (metadata_props). */
#define CNN_ONNX_NOTE_INPUT "cnnkit.input"               /* a sentence for people */
#define CNN_ONNX_NOTE_DATASET "cnnkit.dataset"           /* "mnist" */
#define CNN_ONNX_NOTE_CLASSES "cnnkit.classes"           /* their names, a line each */
#define CNN_ONNX_NOTE_PREPARATION "cnnkit.preparation"   /* of pictures: "digit" or "resize" */
#define CNN_ONNX_NOTE_AUGMENTATION "cnnkit.augmentation" /* share of images, space, kinds: "0.5 " */
#define CNN_ONNX_NOTE_SPLIT_SEED "cnnkit.split_seed"

#define CNN_ONNX_PRODUCER "cnnkit"

#endif
