/* Lengths cut into pieces. */
#ifndef CNN_CUDA_PIECES_H
#define CNN_CUDA_PIECES_H

#include <stdint.h>

static inline int32_t cnn_cuda_pieces(int32_t length, int32_t piece)
{
    return (length + piece - 1) / piece;
}

static inline int32_t cnn_cuda_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t cnn_cuda_up(int32_t value, int32_t multiple)
{
    return cnn_cuda_pieces(value, multiple) * multiple;
}

/* length cut into the fewest pieces of at most `most`, all alike but the last, a multiple of unit. */
static inline int32_t cnn_cuda_piece(int32_t length, int32_t most, int32_t unit)
{
    const int32_t pieces = cnn_cuda_pieces(length, most / unit * unit);
    return cnn_cuda_up(cnn_cuda_pieces(length, pieces), unit);
}

#endif
