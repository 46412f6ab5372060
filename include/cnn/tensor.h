/* Element types and tensor descriptors.
 *
 * Activations are NHWC, weights KRSC: n = output channels, h = filter height, w = filter width, c = input
 * channels. Vectors (bias, scales, statistics) are [1,1,1,c]. Memory is dense but for the channel count, which
 * may be padded: element (n,h,w,c) of a tensor lies at ((n*H + h)*W + w)*c_pad + c. Padding channels hold 0;
 * whoever writes a tensor writes them too. */
#ifndef CNN_TENSOR_H
#define CNN_TENSOR_H

#include "cnn/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cnn_dtype {
    CNN_NONE = 0, /* an absent tensor */
    CNN_F32,
    CNN_F16,  /* IEEE binary16 */
    CNN_BF16, /* upper half of an f32 */
    CNN_I8,
    CNN_I32,
    CNN_U8,
    CNN_DTYPE_COUNT
} cnn_dtype;

/* What is known of the zeros of a weight tensor [K,R,S,C]: a promise about its values, never a layout. */
typedef enum cnn_structure {
    CNN_DENSE = 0,
    CNN_BLOCK_16X4, /* at least a quarter of the blocks of 16 outputs x 4 inputs, at one filter position each, are zero
                     */
    CNN_SPARSE_2_4, /* at most 2 nonzeros in every 4 consecutive inputs */
    CNN_SPARSE,     /* any zeros */
    CNN_STRUCTURE_COUNT
} cnn_structure;

typedef struct cnn_tensor_desc {
    cnn_dtype dtype;
    int32_t n, h, w, c;
    int32_t c_pad;           /* channels in memory, >= c */
    cnn_structure structure; /* of weights that hold still; dense elsewhere */
} cnn_tensor_desc;

/* A block of CNN_BLOCK_16X4: outputs [16i, 16i+16) x inputs [4j, 4j+4) at filter position (r,s), less where a tensor
 * ends. The inputs of a linear layer are all its R*S*C values in that order. The promise is that of CNN_BLOCK_SHARE
 * blocks one is zero. */
enum { CNN_BLOCK_OUTPUTS = 16, CNN_BLOCK_INPUTS = 4, CNN_BLOCK_SHARE = 4 };

/* Bytes of one element; 0 for CNN_NONE. */
static inline size_t cnn_dtype_bytes(cnn_dtype dtype)
{
    switch (dtype) {
    case CNN_F32:
    case CNN_I32:
        return 4;
    case CNN_F16:
    case CNN_BF16:
        return 2;
    case CNN_I8:
    case CNN_U8:
        return 1;
    default:
        return 0;
    }
}

/* A descriptor without channel padding. */
static inline cnn_tensor_desc cnn_desc(cnn_dtype dtype, int32_t n, int32_t h, int32_t w, int32_t c)
{
    cnn_tensor_desc desc;
    desc.dtype = dtype;
    desc.n = n;
    desc.h = h;
    desc.w = w;
    desc.c = c;
    desc.c_pad = c;
    desc.structure = CNN_DENSE;
    return desc;
}

/* [1,1,1,length] */
static inline cnn_tensor_desc cnn_desc_vector(cnn_dtype dtype, int32_t length)
{
    return cnn_desc(dtype, 1, 1, 1, length);
}

/* Pixels: n*h*w. */
static inline int64_t cnn_desc_pixels(const cnn_tensor_desc *desc)
{
    return (int64_t)desc->n * desc->h * desc->w;
}

/* Logical elements: n*h*w*c. */
static inline int64_t cnn_desc_elements(const cnn_tensor_desc *desc)
{
    return cnn_desc_pixels(desc) * desc->c;
}

/* Bytes in memory, padding included; 0 for an absent tensor. */
static inline size_t cnn_desc_bytes(const cnn_tensor_desc *desc)
{
    return (size_t)(cnn_desc_pixels(desc) * desc->c_pad) * cnn_dtype_bytes(desc->dtype);
}

/* "f32", "i8", ... */
CNN_API const char *cnn_dtype_name(cnn_dtype dtype);

/* "dense", "block", "2:4", "sparse" */
CNN_API const char *cnn_structure_name(cnn_structure structure);

#ifdef __cplusplus
}
#endif
#endif
