/* Winograd F(4x4, 5x5): tiles, chunks, staging. */
#include "kernels/cpu/winograd.h"

#include <string.h>

enum {
    CHUNK_TILES = 128,   /* V and M of a chunk of 128 channels: 10 MiB each, in the last cache */
    LEAST_CHANNELS = 32, /* fewer leave matrix tiles half empty, and the transforms cost more than they save */
    LEAST_PIXELS = 64
};

cnn_wino_tiles cnn_wino_tiles_of(int32_t n, int32_t height, int32_t width)
{
    cnn_wino_tiles tiles = {.down = (height + CNN_WINO_OUTPUTS - 1) / CNN_WINO_OUTPUTS,
                            .across = (width + CNN_WINO_OUTPUTS - 1) / CNN_WINO_OUTPUTS};
    tiles.all = tiles.down * tiles.across;
    int32_t images = tiles.all < CHUNK_TILES ? CHUNK_TILES / tiles.all : 1;
    tiles.chunks = (n + images - 1) / images;
    tiles.images = (n + tiles.chunks - 1) / tiles.chunks;
    return tiles;
}

int32_t cnn_wino_chunk(const cnn_wino_tiles *tiles, int32_t n, int chunk, int32_t *first)
{
    *first = (int32_t)((int64_t)n * chunk / tiles->chunks);
    return (int32_t)((int64_t)n * (chunk + 1) / tiles->chunks) - *first;
}

bool cnn_wino_suits(const cnn_op_desc *desc, char *why)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        if (desc->arg[role].dtype != CNN_NONE && !cnn_cpu_is_float(desc->arg[role].dtype))
            return cnn_refuse(why, "%s must be float", cnn_arg_name((cnn_arg)role));
    if (!cnn_unpadded(desc, why) || !cnn_conv_shape_fits(desc, why))
        return false;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    if (shape.r != CNN_WINO_TAPS || shape.s != CNN_WINO_TAPS || shape.stride != 1 || shape.pad >= CNN_WINO_TAPS)
        return cnn_refuse(why, "only 5x5 filters at stride 1");
    if (shape.c < LEAST_CHANNELS || shape.k < LEAST_CHANNELS)
        return cnn_refuse(why, "fewer than %d channels", LEAST_CHANNELS);
    int64_t tiles = cnn_wino_tiles_of(1, shape.p, shape.q).all, pixels = (int64_t)shape.p * shape.q;
    if (shape.n * pixels < LEAST_PIXELS)
        return cnn_refuse(why, "fewer than %d pixels", LEAST_PIXELS);
    /* Direct: 25 products an output; tiles: 64 for up to 16 outputs, and the transforms on top. */
    return pixels * CNN_WINO_TAPS * CNN_WINO_TAPS >= 3 * tiles * CNN_WINO_PRODUCTS ||
           cnn_refuse(why, "the image fills its tiles too badly");
}

void cnn_wino_stage(const cnn_wino_source *source, int32_t n, int32_t y, int32_t rows, int32_t x, int32_t columns,
                    float *band)
{
    const size_t pixel_bytes = (size_t)source->c * cnn_dtype_bytes(source->dtype);
    const size_t pitch = (size_t)source->pitch, extra = pitch - (size_t)source->c;
    for (int32_t i = 0; i < rows; i++)
        for (int32_t j = 0; j < columns; j++, band += pitch) {
            const int32_t row = y + i, column = x + j;
            if (row < 0 || row >= source->h || column < 0 || column >= source->w) {
                memset(band, 0, pitch * sizeof *band);
                continue;
            }
            const int64_t pixel = ((int64_t)n * source->h + row) * source->w + column;
            source->loops->to_f32(source->dtype, (const char *)source->data + (size_t)pixel * pixel_bytes, band,
                                  source->c);
            memset(band + source->c, 0, extra * sizeof *band);
        }
}
