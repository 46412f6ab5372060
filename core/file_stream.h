/* All parameters of a quantized model as one stream of the mixing coder (docs/format.md, "Parameters as one stream"):
 * scales of activations, then for each layer its weights' scales, the weights and the biases. Nothing that the graph
 * implies takes room. */
#ifndef CNN_CORE_FILE_STREAM_H
#define CNN_CORE_FILE_STREAM_H

#include "core/bytes.h"
#include "core/model.h"

/* Whether the stream can hold the model: i8 weights and i32 biases alone, masks that say no more than the zeros. */
bool cnn_stream_suits(const cnn_model *model);

/* Appends the stream. node_bytes [node_count], or NULL, gets what each layer's parameters take. CNN_ERR_SHAPE without a
 * message: too many zeros for this form. */
cnn_status cnn_stream_encode(const cnn_model *model, cnn_bytes *out, size_t *node_bytes);

/* Reads what follows in `field`, to its end, into a model whose parameters are still empty. */
cnn_status cnn_stream_decode(cnn_reader *field, cnn_model *model);

#endif
