/* How conv_wgrad.cu cuts a weight gradient in f16 or bf16.
 *
 * A block sums a slice of tiles for 16 or 32 output channels, 16 input channels and 1 or 9 taps of the filter. It has
 * 128 threads, 3 times as many for 9 taps. A tile is a box of at most CNN_WGRAD_PIXELS output pixels, of several images
 * where those are small. All of it follows from the shape alone, and so does the order of the sums. */
#ifndef CNN_CUDA_CONV_WGRAD_H
#define CNN_CUDA_CONV_WGRAD_H

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/pieces.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CNN_WGRAD_PIXELS = 128,
    CNN_WGRAD_WIDTH = 16, /* of a tile, at most */
    CNN_WGRAD_CHANNELS = 16,
    CNN_WGRAD_PAD = 8,       /* elements behind a pixel in shared memory: rows of fragments hit different banks */
    CNN_WGRAD_BLOCKS = 256,  /* that slices make of fewer */
    CNN_WGRAD_FRAGMENT = 16, /* bytes: 4 sums of a lane */
    CNN_WGRAD_SHARED_BYTES = 48 << 10
};

typedef struct cnn_wgrad_conv {
    int32_t n, h, w, c, k, r, s, p, q, stride, pad;
    int32_t x_pitch, y_pitch;       /* channels in memory */
    int32_t tile_n, tile_p, tile_q; /* images, output rows and columns of a tile */
    int32_t tiles_n, tiles_p, tiles_q;
    int32_t image_h, image_w;             /* input pixels behind a tile, of each image */
    int32_t rows;                         /* of fragments, 16 output channels each: 1 or 2 */
    int32_t taps;                         /* of a block: 1 or 9 */
    int32_t blocks_k, blocks_c, blocks_t; /* of output channels, input channels, taps */
    int64_t tiles, slice_tiles;           /* in all, and of a slice */
    int32_t slices;
    int32_t shared_bytes;
} cnn_wgrad_conv;

/* Lanes' sums of a block, CNN_WGRAD_FRAGMENT bytes each: [taps][rows][2][32]. */
static inline int32_t cnn_wgrad_fragments(const cnn_wgrad_conv *f)
{
    return f->taps * f->rows * 2 * 32;
}

/* Of dy, of the input behind the tile and one pixel of zeros; later of the sums. */
static inline int64_t cnn_wgrad_shared_bytes(const cnn_wgrad_conv *f)
{
    const int64_t image = (int64_t)f->tile_n * f->image_h * f->image_w + 1;
    const int64_t tile =
        CNN_WGRAD_PIXELS * (f->rows * 16 + CNN_WGRAD_PAD) + image * (CNN_WGRAD_CHANNELS + CNN_WGRAD_PAD);
    const int64_t sums = (int64_t)cnn_wgrad_fragments(f) * CNN_WGRAD_FRAGMENT;
    return tile * 2 > sums ? tile * 2 : sums;
}

/* The largest tile of whole pieces that fits into shared memory; a filter can be too large for any. */
static inline void cnn_wgrad_cut_tiles(cnn_wgrad_conv *f)
{
    int64_t bytes;
    f->tile_q = cnn_cuda_piece(f->q, CNN_WGRAD_WIDTH, 1);
    f->tile_p = cnn_cuda_piece(f->p, CNN_WGRAD_PIXELS / f->tile_q, 1);
    f->tile_n = cnn_cuda_min(CNN_WGRAD_PIXELS / (f->tile_p * f->tile_q), f->n);
    for (;;) {
        f->image_h = (f->tile_p - 1) * f->stride + f->r;
        f->image_w = (f->tile_q - 1) * f->stride + f->s;
        bytes = cnn_wgrad_shared_bytes(f);
        int32_t *longest = f->tile_n > 1 ? &f->tile_n : f->tile_p > f->tile_q ? &f->tile_p : &f->tile_q;
        if (bytes <= CNN_WGRAD_SHARED_BYTES || *longest == 1)
            break;
        *longest = cnn_cuda_pieces(*longest, 2);
    }
    f->shared_bytes = bytes < INT32_MAX ? (int32_t)bytes : INT32_MAX;
    f->tiles_n = cnn_cuda_pieces(f->n, f->tile_n);
    f->tiles_p = cnn_cuda_pieces(f->p, f->tile_p);
    f->tiles_q = cnn_cuda_pieces(f->q, f->tile_q);
    f->tiles = (int64_t)f->tiles_n * f->tiles_p * f->tiles_q;
}

/* Of a CONV_WGRAD descriptor: x [N,H,W,C], dw [K,R,S,C], dy [N,P,Q,K]. */
static inline cnn_wgrad_conv cnn_wgrad_conv_of(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC], *dw = &desc->arg[CNN_ARG_DST];
    cnn_wgrad_conv f;
    f.n = x->n, f.h = x->h, f.w = x->w, f.c = x->c;
    f.k = dw->n, f.r = dw->h, f.s = dw->w;
    f.stride = desc->stride, f.pad = desc->pad;
    f.p = cnn_window_count(f.h, f.r, f.stride, f.pad);
    f.q = cnn_window_count(f.w, f.s, f.stride, f.pad);
    f.x_pitch = x->c_pad, f.y_pitch = desc->arg[CNN_ARG_SRC2].c_pad;
    f.rows = f.k <= 16 ? 1 : 2;
    f.taps = f.r * f.s == 1 ? 1 : 9;
    f.blocks_k = cnn_cuda_pieces(f.k, f.rows * 16);
    f.blocks_c = cnn_cuda_pieces(f.c, CNN_WGRAD_CHANNELS);
    f.blocks_t = cnn_cuda_pieces(f.r * f.s, f.taps);
    cnn_wgrad_cut_tiles(&f);
    const int64_t blocks = (int64_t)f.blocks_k * f.blocks_c * f.blocks_t;
    const int64_t slices = blocks < CNN_WGRAD_BLOCKS ? CNN_WGRAD_BLOCKS / blocks : 1;
    f.slice_tiles = (f.tiles + slices - 1) / slices;
    f.slices = (int32_t)((f.tiles + f.slice_tiles - 1) / f.slice_tiles);
    return f;
}

#ifdef __cplusplus
}
#endif
#endif
