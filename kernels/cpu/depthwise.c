/* Which inputs reach the outputs of a depthwise convolution and of its data gradient.
 *
 * Output j of a line reads column j*stride + s - pad at tap s. Of a data gradient, column (w + pad - s)/stride where
 * that is whole: columns w that leave the same remainder form a phase, in which outputs w, w + stride, ... read
 * neighbours by the same taps. Inside, all of a phase's outputs have all of its taps and go in one piece; at the edges
 * each goes alone. */
#include "kernels/cpu/depthwise.h"

cnn_depthwise cnn_depthwise_of(const cnn_op_desc *desc)
{
    const bool dgrad = desc->op == CNN_OP_GROUP_CONV_DGRAD;
    const cnn_tensor_desc *x = &desc->arg[dgrad ? CNN_ARG_DST : CNN_ARG_SRC];
    const cnn_tensor_desc *w = &desc->arg[desc->op == CNN_OP_GROUP_CONV_WGRAD ? CNN_ARG_DST : CNN_ARG_WEIGHT];
    const int32_t p = cnn_window_count(x->h, w->h, desc->stride, desc->pad);
    const int32_t q = cnn_window_count(x->w, w->w, desc->stride, desc->pad);
    return (cnn_depthwise){.r = w->h,
                           .s = w->w,
                           .stride = desc->stride,
                           .pad = desc->pad,
                           .channels = x->c,
                           .in_h = dgrad ? p : x->h,
                           .in_w = dgrad ? q : x->w,
                           .out_h = dgrad ? x->h : p,
                           .out_w = dgrad ? x->w : q,
                           .pitch = desc->arg[CNN_ARG_SRC].c_pad,
                           .dgrad = dgrad};
}

bool cnn_depthwise_suits(const cnn_op_desc *desc, char *why)
{
    const bool wgrad = desc->op == CNN_OP_GROUP_CONV_WGRAD;
    const cnn_tensor_desc *x = &desc->arg[desc->op == CNN_OP_GROUP_CONV_DGRAD ? CNN_ARG_DST : CNN_ARG_SRC];
    const cnn_tensor_desc *w = &desc->arg[wgrad ? CNN_ARG_DST : CNN_ARG_WEIGHT];
    if (w->c != 1 || w->n != x->c)
        return cnn_refuse(why, "a group has more than one input and one output");
    if ((int64_t)w->h * w->w > CNN_DEPTHWISE_MOST_TAPS)
        return cnn_refuse(why, "a filter of more than %d taps", CNN_DEPTHWISE_MOST_TAPS);
    return cnn_conv_shape_fits(desc, why);
}

/* The row (or column) that output i reads at tap t; -1: none. */
static int32_t read_at(const cnn_depthwise *d, int32_t i, int32_t t, int32_t length)
{
    const int32_t at = d->dgrad ? i + d->pad - t : i * d->stride + t - d->pad;
    if (at < 0 || (d->dgrad && at % d->stride != 0))
        return -1;
    const int32_t read = d->dgrad ? at / d->stride : at;
    return read < length ? read : -1;
}

int32_t cnn_depthwise_rows(const cnn_depthwise *d, int32_t first, int32_t last, int32_t *row)
{
    int32_t low = d->in_h, high = -1;
    for (int32_t i = first; i < last; i++)
        for (int32_t t = 0; t < d->r; t++) {
            const int32_t at = read_at(d, i, t, d->in_h);
            low = at >= 0 && at < low ? at : low;
            high = at > high ? at : high;
        }
    *row = high < 0 ? 0 : low;
    return high < 0 ? 0 : high - low + 1;
}

int32_t cnn_depthwise_most_rows(const cnn_depthwise *d, int32_t lines)
{
    const int64_t most = d->dgrad ? ((int64_t)lines + d->r) / d->stride + 1 : (int64_t)(lines - 1) * d->stride + d->r;
    return most < d->in_h ? (int32_t)most : d->in_h;
}

int32_t cnn_depthwise_task_lines(const cnn_depthwise *d)
{
    enum { VALUES = 32768, LEAST = 4 };
    const int64_t lines = VALUES / ((int64_t)d->out_w * d->channels);
    return lines > d->out_h ? d->out_h : lines < LEAST ? LEAST : (int32_t)lines;
}

/* ---- A line ---- */

typedef struct tap_list {
    ptrdiff_t tap[CNN_DEPTHWISE_MOST_TAPS], weight[CNN_DEPTHWISE_MOST_TAPS];
    int count;
} tap_list;

/* The taps of output (line, column) that lie inside the input. */
static void list_taps(const cnn_depthwise *d, int32_t line, int32_t column, int32_t base, tap_list *list)
{
    list->count = 0;
    for (int32_t r = 0; r < d->r; r++) {
        const int32_t row = read_at(d, line, r, d->in_h);
        for (int32_t s = 0; s < d->s && row >= 0; s++) {
            const int32_t at = read_at(d, column, s, d->in_w);
            if (at < 0)
                continue;
            list->tap[list->count] = ((ptrdiff_t)(row - base) * d->in_w + at) * d->pitch;
            list->weight[list->count++] = (ptrdiff_t)(r * d->s + s) * d->channels;
        }
    }
}

/* Whether output `column` has all the columns that it would have in an endless image. */
static bool inside(const cnn_depthwise *d, int32_t column)
{
    const int32_t low = d->dgrad ? column + d->pad - d->s + 1 : column * d->stride - d->pad;
    const int32_t high = d->dgrad ? column + d->pad : low + d->s - 1;
    const int32_t scale = d->dgrad ? d->stride : 1;
    return low >= 0 && high / scale < d->in_w;
}

void cnn_depthwise_line(const cnn_depthwise *d, int32_t line, int32_t base, cnn_depthwise_run *run, void *context)
{
    const int32_t phases = d->dgrad ? d->stride : 1;
    const ptrdiff_t x_step = (ptrdiff_t)(d->dgrad ? 1 : d->stride) * d->pitch;
    tap_list list;
    for (int32_t phase = 0; phase < phases && phase < d->out_w; phase++)
        for (int32_t column = phase; column < d->out_w;) {
            int32_t next = column + phases;
            for (bool whole = inside(d, column); whole && next < d->out_w && inside(d, next);)
                next += phases;
            list_taps(d, line, column, base, &list);
            const cnn_depthwise_taps taps = {.tap = list.tap,
                                             .weight = list.weight,
                                             .taps = list.count,
                                             .pixels = (next - column) / phases,
                                             .channels = d->channels,
                                             .x_step = x_step,
                                             .y_step = (ptrdiff_t)phases * d->channels};
            run(context, &taps, column);
            column = next;
        }
}
