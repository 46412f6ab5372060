/* How the mixing coder codes i8 weights: which decisions, in which order, in which contexts (docs/format.md,
 * "Range-coded weights"). */
#ifndef CNN_CORE_WEIGHT_CODER_H
#define CNN_CORE_WEIGHT_CODER_H

#include "cnn/tensor.h"
#include "core/mix_coder.h"

/* Codes the values [n,h,w,c], -127 to 127, or decodes into them (coding does not write to them). CNN_ERR_MEMORY is the
 * only failure. */
cnn_status cnn_weights_code(cnn_mix_coder *coder, const cnn_tensor_desc *desc, int8_t *values);

/* How likely the coder takes each of the values [n,h,w,c] to be other than 0 when its turn comes, in 1/65536, and how
 * many bytes all of them become. 0 where a column is dead and not coded. CNN_ERR_MEMORY is the only failure. */
cnn_status cnn_weights_chances(const cnn_tensor_desc *desc, const int8_t *values, uint16_t *nonzero, size_t *bytes);

#endif
