/* Weights in blocks: where each lies, and which are zero. */
#include "core/weight_blocks.h"

#include "core/file.h"
#include "core/layers.h"

cnn_block_grid cnn_block_grid_of(const cnn_node *node, int32_t high, int32_t wide)
{
    const cnn_tensor_desc *desc = &node->param[CNN_PARAM_WEIGHT].desc;
    const bool flat = node->type->id == CNN_LAYER_LINEAR;
    const int32_t taps = desc->h * desc->w;
    return (cnn_block_grid){.outputs = desc->n,
                            .taps = flat ? 1 : taps,
                            .inputs = flat ? taps * desc->c : desc->c,
                            .high = high,
                            .wide = wide};
}

/* Blocks side by side at one filter position. */
static int32_t columns_of(const cnn_block_grid *grid)
{
    return (grid->inputs + grid->wide - 1) / grid->wide;
}

int64_t cnn_block_count(const cnn_block_grid *grid)
{
    return (int64_t)((grid->outputs + grid->high - 1) / grid->high) * grid->taps * columns_of(grid);
}

cnn_weight_block cnn_block_get(const cnn_block_grid *grid, int64_t number)
{
    const int32_t columns = columns_of(grid);
    const int32_t c = (int32_t)(number % columns) * grid->wide;
    const int64_t row = number / columns, tap = row % grid->taps;
    const int32_t k = (int32_t)(row / grid->taps) * grid->high;
    const int32_t rows = grid->outputs - k, left = grid->inputs - c;
    return (cnn_weight_block){.first = ((int64_t)k * grid->taps + tap) * grid->inputs + c,
                              .stride = (int64_t)grid->taps * grid->inputs,
                              .rows = rows < grid->high ? rows : grid->high,
                              .columns = left < grid->wide ? left : grid->wide};
}

/* Whether `count` elements from `first` on are zero; i8 is worth a path of its own, as files are checked with it. */
static bool is_zero_run(const cnn_param *weight, int64_t first, int32_t count)
{
    int any = 0;
    if (weight->desc.dtype == CNN_I8) {
        for (int32_t i = 0; i < count; i++)
            any |= ((const int8_t *)weight->data)[first + i];
        return any == 0;
    }
    for (int32_t i = 0; i < count; i++)
        any |= !cnn_param_is_zero(weight, first + i);
    return any == 0;
}

static bool is_zero(const cnn_param *weight, const cnn_weight_block *block)
{
    for (int32_t row = 0; row < block->rows; row++)
        if (!is_zero_run(weight, block->first + row * block->stride, block->columns))
            return false;
    return true;
}

int64_t cnn_block_zeros(const cnn_node *node, const cnn_block_grid *grid)
{
    const int64_t count = cnn_block_count(grid);
    int64_t zeros = 0;
    for (int64_t i = 0; i < count; i++) {
        const cnn_weight_block block = cnn_block_get(grid, i);
        zeros += is_zero(&node->param[CNN_PARAM_WEIGHT], &block);
    }
    return zeros;
}
