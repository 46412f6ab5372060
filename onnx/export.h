/* A model on its way into an ONNX graph. */
#ifndef CNN_ONNX_EXPORT_H
#define CNN_ONNX_EXPORT_H

#include "core/layers.h"
#include "onnx/format.h"

/* Memory that is given back all at once. After a failed allocation `failed` is set, and what is asked for then is
 * NULL. */
typedef struct cnn_onnx_memory {
    void **blocks;
    size_t count, capacity;
    bool failed;
} cnn_onnx_memory;

void *cnn_onnx_alloc(cnn_onnx_memory *memory, size_t count, size_t size); /* cleared */
char *cnn_onnx_text(cnn_onnx_memory *memory, const char *format, ...) CNN_PRINTF(2, 3);
void cnn_onnx_memory_free(cnn_onnx_memory *memory);

/* What the value of a layer is in the graph. */
typedef struct cnn_onnx_made {
    const char *name; /* NULL: not made yet */
    bool flat;        /* [N,values], else [N,C,H,W] */
} cnn_onnx_made;

typedef struct cnn_onnx_export {
    const cnn_model *model;
    cnn_onnx_memory memory;
    cnn_onnx_graph graph;
    size_t node_capacity, constant_capacity;
    cnn_onnx_made *made; /* [node_count] */
    bool quantized;
} cnn_onnx_export;

/* Appends a node with so many inputs (char *) and one output of that name, and returns it; NULL without memory. Node
 * and operator are text that lives as long as the export. */
cnn_onnx_node *cnn_onnx_put_node(cnn_onnx_export *export, const char *operator, const char * name, const char *output,
                                 int input_count, ...);

void cnn_onnx_put_int(cnn_onnx_export *export, cnn_onnx_node *node, const char *name, int64_t value);
void cnn_onnx_put_ints(cnn_onnx_export *export, cnn_onnx_node *node, const char *name, int count, int64_t value);
void cnn_onnx_put_real(cnn_onnx_export *export, cnn_onnx_node *node, const char *name, float value);

/* Appends a constant; `data` lives as long as the export. Returns its name. */
const char *cnn_onnx_put_constant(cnn_onnx_export *export, const char *name, cnn_onnx_type type, int rank,
                                  const int64_t *dims, const void *data, size_t bytes);

/* A parameter as a constant under the name and in the shape that PyTorch has (core/torch_names.h). Behind INT8 ones
 * stands a DequantizeLinear; returned is what computes with it. NULL: the layer has no such parameter. */
const char *cnn_onnx_put_param(cnn_onnx_export *export, int node, cnn_param_role role);

/* The value of input `i` of layer `node`, as [N,C,H,W] or flat as it is needed. */
const char *cnn_onnx_spatial(cnn_onnx_export *export, int node, int i);
const char *cnn_onnx_flat(cnn_onnx_export *export, int node, int i);

/* The file in fresh memory; free() it. */
cnn_status cnn_onnx_encode(const cnn_model *model, uint8_t **data, size_t *size);

/* The name for what layer `node` computes: its own, in the last layer that of the output. */
const char *cnn_onnx_result(cnn_onnx_export *export, int node);

#endif
