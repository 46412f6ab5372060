/* safetensors files: weights under the names and in the order that PyTorch gives them.
 *
 *     convolution conv1    conv1.weight [out,in,height,width], conv1.bias [out]
 *     linear fc1           fc1.weight [out,in], the values of its input channels first; fc1.bias [out]
 *     batch norm bn1       bn1.weight, bn1.bias, bn1.running_mean, bn1.running_var [channels]
 *
 * A file holds no network. */
#ifndef CNN_SAFETENSORS_H
#define CNN_SAFETENSORS_H

#include "cnn/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the weights of a float model as F32: to a temporary file beside it, synced, renamed. On failure a file that
 * existed stays whole. */
CNN_API cnn_status cnn_safetensors_save(const cnn_model *model, const char *path, size_t *bytes /* or NULL */);

/* Gives a network the weights of a file: F32, F16, BF16 or F64. Names may have something in front
 * ("module.conv1.weight"). When no name is that of a layer, as with nn.Sequential ("0.weight", "3.weight"), layers take
 * them in natural order. Each parameter must be there in its shape, and nothing may be left over but
 * num_batches_tracked. When it fails, parameters may have changed. */
CNN_API cnn_status cnn_safetensors_load(const char *path, cnn_model *model);

#ifdef __cplusplus
}
#endif
#endif
