/* Winograd: the choice of a form, tiles, chunks, pixels. */
#include "kernels/cpu/winograd.h"

enum {
    CHUNK_TILES = 128,                 /* V and M of a chunk of 128 channels: 10 MiB each, in the last cache */
    LEAST_CHANNELS = CNN_FEW_CHANNELS, /* of either side; a vector of the widest level */
    LEAST_PIXELS = 64,                 /* of all images */
    TRANSFORM_COST = 12                /* of one channel at one point, in multiplications */
};

cnn_wino_tiles cnn_wino_tiles_of(const cnn_wino_form *form, int32_t n, int32_t height, int32_t width)
{
    cnn_wino_tiles tiles = {.down = (height + form->outputs - 1) / form->outputs,
                            .across = (width + form->outputs - 1) / form->outputs};
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

/* Multiplications of one image and pair of channels. */
static double tiles_cost(const cnn_wino_form *form, const cnn_conv_shape *shape, int32_t height, int32_t width)
{
    const double tiles = cnn_wino_tiles_of(form, 1, height, width).all, c = shape->c, k = shape->k;
    return tiles * form->points * form->points * (1 + TRANSFORM_COST * (c + k) / (c * k));
}

static const cnn_wino_form *best_form(const cnn_op_desc *desc, const cnn_cpu_loops *loops, const cnn_conv_shape *shape,
                                      char *why)
{
    const bool data = desc->op == CNN_OP_CONV_DGRAD;
    const int32_t height = data ? shape->h : shape->p, width = data ? shape->w : shape->q;
    const cnn_wino_form *best = NULL;
    double least = (double)shape->p * shape->q * shape->r * shape->s;
    for (int i = 0; i < loops->wino_forms; i++) {
        const cnn_wino_form *form = loops->wino[i];
        if (form->taps != shape->r)
            continue;
        const double cost = tiles_cost(form, shape, height, width);
        best = cost < least ? form : best;
        least = cost < least ? cost : least;
    }
    if (!best)
        cnn_refuse(why, "tiles of these channels and this image would take more work");
    return best;
}

const cnn_wino_form *cnn_wino_choose(const cnn_op_desc *desc, const cnn_cpu_loops *loops, char *why)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        if (desc->arg[role].dtype != CNN_NONE && !cnn_cpu_is_float(desc->arg[role].dtype)) {
            cnn_refuse(why, "%s must be float", cnn_arg_name((cnn_arg)role));
            return NULL;
        }
    if (!cnn_unpadded(desc, why) || !cnn_conv_shape_fits(desc, why))
        return NULL;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    if (shape.r != shape.s || (shape.r != 3 && shape.r != 5) || shape.stride != 1 || shape.pad >= shape.r)
        cnn_refuse(why, "only 3x3 and 5x5 filters at stride 1");
    else if (shape.c < LEAST_CHANNELS || shape.k < LEAST_CHANNELS)
        cnn_refuse(why, "fewer than %d channels", LEAST_CHANNELS);
    else if ((int64_t)shape.n * shape.p * shape.q < LEAST_PIXELS)
        cnn_refuse(why, "fewer than %d pixels", LEAST_PIXELS);
    else
        return best_form(desc, loops, &shape, why);
    return NULL;
}

void cnn_wino_pixels(const cnn_wino_image *image, int32_t n, int32_t y, int32_t x, int size, int32_t channel,
                     void *pixel[CNN_WINO_MAX_PIXELS])
{
    const ptrdiff_t bytes = (ptrdiff_t)cnn_dtype_bytes(image->dtype), step = image->c * bytes;
    char *outside = image->outside ? (char *)image->outside + channel * bytes : NULL;
    for (int32_t i = 0; i < size; i++) {
        const bool inside = y + i >= 0 && y + i < image->h;
        const ptrdiff_t row = (((ptrdiff_t)n * image->h + y + i) * image->w + x) * step + channel * bytes;
        for (int32_t j = 0; j < size; j++)
            *pixel++ = inside && x + j >= 0 && x + j < image->w ? (char *)image->data + row + j * step : outside;
    }
}
