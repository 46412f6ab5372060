/* From our order of a tensor's values to that of tools that keep channels first, and back.
 *
 *     ours [n,h,w,c]      theirs [n,c,h,w]
 *
 * Convolution weights are [out,height,width,in] and [out,in,height,width]. Linear weights are [out,H,W,C] of the input
 * that they read; others flatten it first and have [out,C*H*W], which is the same order. */
#ifndef CNN_CORE_CHANNELS_FIRST_H
#define CNN_CORE_CHANNELS_FIRST_H

#include "cnn/tensor.h"

/* Copies all values of `desc`, which has no channel padding: `src` in our order to `dst` in theirs. */
void cnn_channels_to_first(const cnn_tensor_desc *desc, const void *src, void *dst);

/* The way back: `src` in their order, `dst` in ours. */
void cnn_channels_from_first(const cnn_tensor_desc *desc, const void *src, void *dst);

#endif
