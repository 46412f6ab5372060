/* How the kernels of conv_first.cu cut a convolution with 1 to 4 input channels.
 *
 * A block makes tile_p x tile_q output pixels (at most CNN_FIRST_PIXELS) of one image and CNN_FIRST_CHANNELS output
 * channels. It holds the input pixels behind them, and the weights, in shared memory; the GEMM's depth, R*S*C taps, is
 * padded to whole steps of a tensor-core instruction. */
#ifndef CNN_CUDA_CONV_FIRST_H
#define CNN_CUDA_CONV_FIRST_H

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/pieces.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CNN_FIRST_THREADS = 128,
    CNN_FIRST_PIXELS = 128,
    CNN_FIRST_CHANNELS = 64,
    CNN_FIRST_TAPS = 32,  /* of a block of the weight gradient */
    CNN_FIRST_GROUP = 16, /* slices whose sums are added first */
    CNN_FIRST_MOST_SLICES = 256,
    CNN_FIRST_SHARED_BYTES = 48 << 10,
    CNN_FIRST_PIXEL_PAD = 16 /* bytes after each pixel of staged outputs: no bank conflicts */
};

typedef struct cnn_first_conv {
    int32_t n, h, w, c, k, r, s, p, q, stride, pad;
    int32_t src_pitch, dst_pitch; /* channels in memory */
    int32_t taps;                 /* r*s*c */
    int32_t steps;                /* of the depth: 32 bytes of taps each */
    int32_t pool;                 /* window and stride of max-pooling; 1: none */
    int32_t tile_p, tile_q;       /* of the convolution's output, multiples of pool */
    int32_t tiles_p, tiles_q;
    int32_t image_h, image_w; /* input pixels behind a tile */
} cnn_first_conv;

static inline int64_t cnn_first_tiles(const cnn_first_conv *f)
{
    return (int64_t)f->n * f->tiles_p * f->tiles_q;
}

/* Of x [N,H,W,C], w [K,R,S,C] and y [N,P,Q,K]; element_bytes of x. */
static inline cnn_first_conv cnn_first_conv_of(const cnn_op_desc *desc, const cnn_tensor_desc *w,
                                               const cnn_tensor_desc *y)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    const int32_t row = 32;
    cnn_first_conv f;
    f.n = x->n, f.h = x->h, f.w = x->w, f.c = x->c;
    f.k = w->n, f.r = w->h, f.s = w->w;
    f.stride = desc->stride, f.pad = desc->pad;
    f.p = cnn_window_count(f.h, f.r, f.stride, f.pad);
    f.q = cnn_window_count(f.w, f.s, f.stride, f.pad);
    f.src_pitch = x->c_pad, f.dst_pitch = y->c_pad;
    f.taps = f.r * f.s * f.c;
    f.steps = (f.taps * (int32_t)cnn_dtype_bytes(x->dtype) + 31) / 32;
    f.pool = cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL) ? desc->pool_kernel : 1;
    f.tile_q = cnn_cuda_piece(f.q, row, f.pool);
    f.tile_p = cnn_cuda_piece(f.p, cnn_cuda_min(CNN_FIRST_PIXELS / f.tile_q, 16), f.pool);
    f.tiles_p = (f.p + f.tile_p - 1) / f.tile_p;
    f.tiles_q = (f.q + f.tile_q - 1) / f.tile_q;
    f.image_h = (f.tile_p - 1) * f.stride + f.r;
    f.image_w = (f.tile_q - 1) * f.stride + f.s;
    return f;
}

/* ---- The weight gradient: pixels are summed by slices of tiles ---- */

typedef struct cnn_first_slices {
    int64_t tiles; /* of a slice */
    int32_t count;
} cnn_first_slices;

static inline cnn_first_slices cnn_first_slices_of(const cnn_first_conv *f)
{
    const int64_t most = CNN_FIRST_MOST_SLICES, tiles = cnn_first_tiles(f);
    cnn_first_slices s;
    s.tiles = (tiles + most - 1) / most < 2 ? 2 : (tiles + most - 1) / most;
    s.count = (int32_t)((tiles + s.tiles - 1) / s.tiles);
    return s;
}

/* ---- Shared memory of the forward kernel, in bytes from its start ---- */

typedef struct cnn_first_layout {
    int32_t weights; /* [64][weight_words * 4]: taps padded to whole steps, then 16 bytes against bank conflicts */
    int32_t weight_words;
    int32_t staged; /* [128][64 outputs + pad], for outputs narrower than 4 bytes */
    int32_t bias, mult;
    int32_t offsets; /* int16 of each tap in the image; -1 for padding */
    int32_t pixels;  /* int32 row << 16 | column of each pixel of the tile */
    int32_t image;   /* [image_h][image_w][c] */
    int32_t bytes;
} cnn_first_layout;

static inline cnn_first_layout cnn_first_layout_of(const cnn_first_conv *f, int32_t element_bytes, int32_t out_bytes)
{
    cnn_first_layout l;
    l.weights = 0;
    l.weight_words = f->steps * 8 + 4;
    l.staged = CNN_FIRST_CHANNELS * l.weight_words * 4;
    l.bias = l.staged + (out_bytes < 4 ? CNN_FIRST_PIXELS * (CNN_FIRST_CHANNELS * out_bytes + CNN_FIRST_PIXEL_PAD) : 0);
    l.mult = l.bias + CNN_FIRST_CHANNELS * 4;
    l.offsets = l.mult + CNN_FIRST_CHANNELS * 4;
    l.pixels = l.offsets + f->steps * 32 / element_bytes * 2;
    l.image = l.pixels + CNN_FIRST_PIXELS * 4;
    l.bytes = l.image + cnn_cuda_up(f->image_h * f->image_w * f->c * element_bytes, 16);
    return l;
}

#ifdef __cplusplus
}
#endif
#endif
