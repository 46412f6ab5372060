/* The operators: what is read and what is written. Adding one is a row in onnx/operators.c and its functions. */
#ifndef CNN_ONNX_OPERATORS_H
#define CNN_ONNX_OPERATORS_H

#include "onnx/export.h"
#include "onnx/import.h"

typedef struct cnn_onnx_operator {
    const char *name;
    int layer; /* the CNN_LAYER_... that is written as this operator; CNN_ONNX_NO_LAYER: none is */
    size_t min_inputs, max_inputs;
    /* Makes the node's outputs out of its inputs: layers, constants, or the same value under another name. NULL: known,
     * but not supported. An error needs no place; the caller adds file and node. */
    cnn_status (*read)(cnn_onnx_import *import, const cnn_onnx_node *node);
    /* Appends what computes layer `node`; NULL when layer is CNN_ONNX_NO_LAYER. Without memory export->memory.failed is
     * set. */
    cnn_status (*write)(cnn_onnx_export *export, int node);
} cnn_onnx_operator;

enum { CNN_ONNX_NO_LAYER = -1 };

/* name NULL after the last. */
extern const cnn_onnx_operator cnn_onnx_operators[];

const cnn_onnx_operator *cnn_onnx_operator_find(const char *name);         /* NULL when unknown */
const cnn_onnx_operator *cnn_onnx_operator_of(const cnn_layer_type *type); /* NULL when none writes such a layer */

#endif
