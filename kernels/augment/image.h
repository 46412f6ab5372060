/* Augmentation of pixels: the steps in their order, on floats between two planes. */
#ifndef CNN_AUGMENT_IMAGE_H
#define CNN_AUGMENT_IMAGE_H

#include "kernels/augment/serif.h"

#define CNN_AUGMENT_THINNEST 1.6f      /* strokes are not thinned below it, in pixels */
#define CNN_AUGMENT_MOST_RESTORED 1.6f /* factor of brightness */

/* ---- Planes ---- */

CNN_STEP void augment_read_bytes(const uint8_t *src, const cnn_plane *plane)
{
    const int32_t values = plane->width * plane->channels;
    for (int32_t y = CNN_STEP_ROW; y < plane->height; y += CNN_STEP_ROWS) {
        float *row = cnn_plane_at(plane, y, 0);
        for (int32_t i = CNN_STEP_COLUMN; i < values; i += CNN_STEP_COLUMNS)
            row[i] = (float)src[(ptrdiff_t)y * values + i];
    }
    CNN_STEP_SYNC();
}

/* low <= high; in two steps, of which compilers make vectors. */
CNN_STEP float augment_clamp(float value, float low, float high)
{
    value = value < low ? low : value;
    return value > high ? high : value;
}

/* The byte of a value. */
CNN_STEP uint8_t augment_byte(float value)
{
    return (uint8_t)(augment_clamp(value, 0.0f, 255.0f) + 0.5f);
}

/* Fills the border: with 0, or with the nearest pixel. */
CNN_STEP void augment_fill_border(const cnn_plane *plane, bool nearest)
{
    const int32_t channels = plane->channels, values = (plane->width + 2) * channels;
    for (int32_t y = CNN_STEP_ROW; y < plane->height; y += CNN_STEP_ROWS) {
        float *left = cnn_plane_at(plane, y, -1), *right = cnn_plane_at(plane, y, plane->width);
        for (int32_t c = CNN_STEP_COLUMN; c < channels; c += CNN_STEP_COLUMNS) {
            left[c] = nearest ? left[c + channels] : 0.0f;
            right[c] = nearest ? right[c - channels] : 0.0f;
        }
    }
    CNN_STEP_SYNC();
    for (int32_t side = CNN_STEP_ROW; side < 2; side += CNN_STEP_ROWS) {
        float *at = cnn_plane_at(plane, side ? plane->height : -1, -1);
        const float *inside = cnn_plane_at(plane, side ? plane->height - 1 : 0, -1);
        for (int32_t i = CNN_STEP_COLUMN; i < values; i += CNN_STEP_COLUMNS)
            at[i] = nearest ? inside[i] : 0.0f;
    }
    CNN_STEP_SYNC();
}

CNN_STEP void augment_swap(cnn_plane *a, cnn_plane *b)
{
    float *pixels = a->pixels;
    a->pixels = b->pixels;
    b->pixels = pixels;
}

/* ---- Stroke width ---- */

/* The extreme among a pixel's four neighbours and itself, and among all eight: their mean moves edges by one pixel
 * across and by 1.06 along the diagonal. up, row, down point at the pixel in three rows; step is the way to the next.
 */
CNN_STEP float augment_grown(const float *up, const float *row, const float *down, ptrdiff_t step)
{
    const float cross = cnn_higher(cnn_higher(cnn_higher(up[0], down[0]), cnn_higher(row[-step], row[step])), row[0]);
    const float corners = cnn_higher(cnn_higher(up[-step], up[step]), cnn_higher(down[-step], down[step]));
    return 0.5f * (cross + cnn_higher(cross, corners));
}

CNN_STEP float augment_shrunk(const float *up, const float *row, const float *down, ptrdiff_t step)
{
    const float cross = cnn_lower(cnn_lower(cnn_lower(up[0], down[0]), cnn_lower(row[-step], row[step])), row[0]);
    const float corners = cnn_lower(cnn_lower(up[-step], up[step]), cnn_lower(down[-step], down[step]));
    return 0.5f * (cross + cnn_lower(cross, corners));
}

/* Moves all edges by `by` <= 1 pixel, outwards or inwards: `by` of the way to the image whose edges moved by one. */
CNN_STEP void augment_move_edges(const cnn_plane *src, const cnn_plane *dst, float by, bool outwards)
{
    const int32_t values = src->width * src->channels;
    for (int32_t y = CNN_STEP_ROW; y < src->height; y += CNN_STEP_ROWS) {
        const float *up = cnn_plane_at(src, y - 1, 0), *row = cnn_plane_at(src, y, 0),
                    *down = cnn_plane_at(src, y + 1, 0);
        float *out = cnn_plane_at(dst, y, 0);
        const ptrdiff_t step = src->channels;
        if (outwards)
            for (int32_t i = CNN_STEP_COLUMN; i < values; i += CNN_STEP_COLUMNS)
                out[i] = row[i] + by * (augment_grown(up + i, row + i, down + i, step) - row[i]);
        else
            for (int32_t i = CNN_STEP_COLUMN; i < values; i += CNN_STEP_COLUMNS)
                out[i] = row[i] + by * (augment_shrunk(up + i, row + i, down + i, step) - row[i]);
    }
    CNN_STEP_SYNC();
}

CNN_STEP void augment_change_strokes(cnn_plane *plane, cnn_plane *spare, float pixels, bool mirror, float *sums)
{
    float left = 0.5f * pixels; /* each side */
    const bool outwards = pixels > 0.0f;
    augment_fill_border(plane, mirror);
    if (!outwards) {
        const float width = augment_stroke_width(plane, spare, sums);
        left = augment_clamp(-left, 0.0f, cnn_higher(0.0f, 0.5f * (width - CNN_AUGMENT_THINNEST)));
    }
    while (left > 0.0f) {
        augment_move_edges(plane, spare, cnn_lower(left, 1.0f), outwards);
        augment_swap(plane, spare);
        augment_fill_border(plane, mirror);
        left -= 1.0f;
    }
}

/* ---- Geometry ---- */

/* The cubic B-spline's weights on the four nodes around a position, and the first of them. */
typedef struct augment_spline {
    int first;
    float weight[4];
} augment_spline;

/* Position i of n pixels on CNN_AUGMENT_CELLS cells. */
CNN_STEP augment_spline augment_spline_at(int32_t i, int32_t n)
{
    const float at = ((float)i + 0.5f) * (float)CNN_AUGMENT_CELLS / (float)n;
    const int cell = at < (float)CNN_AUGMENT_CELLS ? (int)at : CNN_AUGMENT_CELLS - 1;
    const float t = at - (float)cell, s = 1.0f - t;
    const augment_spline spline = {cell,
                                   {s * s * s / 6.0f, (4.0f - 3.0f * t * t * (1.0f + s)) / 6.0f,
                                    (4.0f - 3.0f * s * s * (1.0f + t)) / 6.0f, t * t * t / 6.0f}};
    return spline;
}

/* The field along one row: x, y at the nodes. */
CNN_STEP void augment_flow_row(const cnn_augment_params *params, int32_t y, int32_t height,
                               float row[2][CNN_AUGMENT_NODES])
{
    const augment_spline s = augment_spline_at(y, height);
    for (int axis = 0; axis < 2; axis++)
        for (int column = 0; column < CNN_AUGMENT_NODES; column++) {
            float sum = 0.0f;
            for (int k = 0; k < 4; k++)
                sum += s.weight[k] * params->flow[axis][s.first + k][column];
            row[axis][column] = sum;
        }
}

/* Columns `first` and on, which a thread takes together, and what they are: weights of all nodes, 0 but for four. */
typedef struct augment_columns {
    int32_t first, count;
    float weight[CNN_AUGMENT_NODES][CNN_STEP_TOGETHER];
} augment_columns;

CNN_STEP void augment_columns_at(int32_t first, int32_t width, bool flows, augment_columns *columns)
{
    columns->first = first;
    columns->count = width - first < CNN_STEP_TOGETHER ? width - first : CNN_STEP_TOGETHER;
    for (int node = 0; node < CNN_AUGMENT_NODES; node++)
        for (int32_t i = 0; i < CNN_STEP_TOGETHER; i++)
            columns->weight[node][i] = 0.0f;
    for (int32_t i = 0; flows && i < columns->count; i++) {
        const augment_spline s = augment_spline_at(first + i, width);
        for (int k = 0; k < 4; k++)
            columns->weight[s.first + k][i] = s.weight[k];
    }
}

/* Adds the field at these columns. */
CNN_STEP void augment_add_flow(const augment_columns *columns, const float nodes[CNN_AUGMENT_NODES],
                               float at[CNN_STEP_TOGETHER])
{
    for (int32_t i = 0; i < CNN_STEP_TOGETHER; i++) {
        float sum = 0.0f;
        for (int node = 0; node < CNN_AUGMENT_NODES; node++)
            sum += columns->weight[node][i] * nodes[node];
        at[i] += sum;
    }
}

/* Brings positions into the image or, without mirror, its border, which is 0. Mirrors once: what lies beyond a whole
 * image is taken from its edge. */
CNN_STEP void augment_fold(int32_t n, bool mirror, float at[CNN_STEP_TOGETHER])
{
    const float last = (float)(n - 1), least = mirror ? 0.0f : -1.0f, most = mirror ? last : last + 1.0f;
    for (int32_t i = 0; mirror && i < CNN_STEP_TOGETHER; i++)
        at[i] = at[i] < 0.0f ? -at[i] : at[i] > last ? 2.0f * last - at[i] : at[i];
    for (int32_t i = 0; i < CNN_STEP_TOGETHER; i++)
        at[i] = augment_clamp(at[i], least, most);
}

/* The pixel at or before each position, and its distance to it. */
CNN_STEP void augment_floor(int32_t n, float at[CNN_STEP_TOGETHER], int32_t pixel[CNN_STEP_TOGETHER])
{
    for (int32_t i = 0; i < CNN_STEP_TOGETHER; i++) {
        const int32_t floor = (int32_t)(at[i] + 1.0f) - 1;
        pixel[i] = floor < n ? floor : n - 1;
        at[i] -= (float)pixel[i];
    }
}

/* Bilinear: a channel of the four pixels around a position, which lies in the image or its border. */
CNN_STEP float augment_between(const float *above, const float *below, int32_t channels, float right, float lower)
{
    const float up = above[0] + right * (above[channels] - above[0]);
    const float down = below[0] + right * (below[channels] - below[0]);
    return up + lower * (down - up);
}

/* Makes these columns of row y from the positions x, y, which it overwrites. */
CNN_STEP void augment_sample(const cnn_plane *src, bool mirror, const augment_columns *columns, int32_t y,
                             float x_at[CNN_STEP_TOGETHER], float y_at[CNN_STEP_TOGETHER], const cnn_plane *dst)
{
    const int32_t channels = src->channels, stride = (src->width + 2) * channels;
    const float *corner = cnn_plane_at(src, -1, -1);
    float *out = cnn_plane_at(dst, y, columns->first);
    int32_t left[CNN_STEP_TOGETHER], top[CNN_STEP_TOGETHER];
    augment_fold(src->width, mirror, x_at);
    augment_fold(src->height, mirror, y_at);
    augment_floor(src->width, x_at, left);
    augment_floor(src->height, y_at, top);
    for (int32_t i = 0; i < CNN_STEP_TOGETHER; i++)
        left[i] = (top[i] + 1) * stride + (left[i] + 1) * channels;
    if (channels == 1) {
        for (int32_t i = 0; i < columns->count; i++)
            out[i] = augment_between(corner + left[i], corner + left[i] + stride, 1, x_at[i], y_at[i]);
        return;
    }
    for (int32_t i = 0; i < columns->count; i++)
        for (int32_t c = 0; c < channels; c++)
            *out++ = augment_between(corner + left[i] + c, corner + left[i] + stride + c, channels, x_at[i], y_at[i]);
}

/* serif: where serifs moved the centre of mass, which the result keeps in place. */
CNN_STEP void augment_resample(const cnn_augment_params *params, bool mirror, cnn_plane_shift serif,
                               const cnn_plane *src, const cnn_plane *dst)
{
    const float cx = 0.5f * (float)(src->width - 1), cy = 0.5f * (float)(src->height - 1);
    float nodes[2][CNN_AUGMENT_NODES], dx[CNN_STEP_TOGETHER], dy[CNN_STEP_TOGETHER];
    augment_columns columns;
    for (int32_t first = CNN_STEP_COLUMN * CNN_STEP_TOGETHER; first < src->width;
         first += CNN_STEP_COLUMNS * CNN_STEP_TOGETHER) {
        augment_columns_at(first, src->width, params->flows, &columns);
        for (int32_t y = CNN_STEP_ROW; y < src->height; y += CNN_STEP_ROWS) {
            for (int32_t i = 0; i < CNN_STEP_TOGETHER; i++) {
                dx[i] = (float)(first + i) - cx - params->move[0];
                dy[i] = (float)y - cy - params->move[1];
            }
            if (params->flows) {
                augment_flow_row(params, y, src->height, nodes);
                augment_add_flow(&columns, nodes[0], dx);
                augment_add_flow(&columns, nodes[1], dy);
            }
            for (int32_t i = 0; i < CNN_STEP_TOGETHER; i++) {
                const float x = dx[i];
                dx[i] = cx + serif.x + params->turn[0][0] * x + params->turn[0][1] * dy[i];
                dy[i] = cy + serif.y + params->turn[1][0] * x + params->turn[1][1] * dy[i];
            }
            augment_sample(src, mirror, &columns, y, dx, dy, dst);
        }
    }
    CNN_STEP_SYNC();
}

/* ---- Edges, brightness, holes ---- */

/* Brightness of the ink: the mean of the pixels, each with its own value as weight. */
CNN_STEP float augment_brightness(const cnn_plane *plane, float *sums)
{
    augment_sum_pair(plane, plane, true, 0, plane->width * plane->channels, sums);
    CNN_STEP_SYNC();
    const float sum = sums[0], squares = sums[1];
    CNN_STEP_SYNC();
    return sum > 0.0f ? squares / sum : 0.0f;
}

CNN_STEP void augment_change_contrast(const cnn_plane *plane, float factor, bool mirror)
{
    const float pivot = mirror ? 127.5f : 0.0f;
    const int32_t values = plane->width * plane->channels;
    for (int32_t y = CNN_STEP_ROW; y < plane->height; y += CNN_STEP_ROWS) {
        float *row = cnn_plane_at(plane, y, 0);
        for (int32_t i = CNN_STEP_COLUMN; i < values; i += CNN_STEP_COLUMNS)
            row[i] = pivot + factor * (row[i] - pivot);
    }
    CNN_STEP_SYNC();
}

/* Thinning and resampling dim strokes, but drawings have full ink: brings the ink's brightness back to `before`. */
CNN_STEP void augment_restore_ink(const cnn_plane *plane, float before, float *sums)
{
    const float now = augment_brightness(plane, sums);
    if (now > 0.0f && now < before)
        augment_change_contrast(plane, cnn_lower(before / now, CNN_AUGMENT_MOST_RESTORED), false);
}

/* (1 2 1)/4 in both directions; by > 0: that share of the smoothed image, by < 0: away from it. */
CNN_STEP void augment_blur(const cnn_plane *src, const cnn_plane *dst, float by)
{
    const ptrdiff_t step = src->channels;
    const int32_t values = src->width * src->channels;
    for (int32_t y = CNN_STEP_ROW; y < src->height; y += CNN_STEP_ROWS) {
        const float *up = cnn_plane_at(src, y - 1, 0), *row = cnn_plane_at(src, y, 0),
                    *down = cnn_plane_at(src, y + 1, 0);
        float *out = cnn_plane_at(dst, y, 0);
        for (int32_t i = CNN_STEP_COLUMN; i < values; i += CNN_STEP_COLUMNS) {
            const float left = up[i - step] + 2.0f * row[i - step] + down[i - step];
            const float middle = up[i] + 2.0f * row[i] + down[i];
            const float right = up[i + step] + 2.0f * row[i + step] + down[i + step];
            out[i] = row[i] + by * ((left + 2.0f * middle + right) * 0.0625f - row[i]);
        }
    }
    CNN_STEP_SYNC();
}

/* First and last + 1 pixel of n that lie in the square. */
CNN_STEP void augment_cut_range(float centre, float side, int32_t n, int32_t range[2])
{
    const int32_t first = (int32_t)(centre * (float)n) - (int32_t)side / 2;
    const int32_t last = first + (int32_t)side;
    range[0] = first < 0 ? 0 : first;
    range[1] = last > n ? n : last;
}

CNN_STEP void augment_cut_out(const cnn_plane *plane, const cnn_augment_params *params, bool mirror)
{
    int32_t columns[2], rows[2];
    augment_cut_range(params->cutout_at[0], params->cutout, plane->width, columns);
    augment_cut_range(params->cutout_at[1], params->cutout, plane->height, rows);
    for (int32_t y = rows[0] + CNN_STEP_ROW; y < rows[1]; y += CNN_STEP_ROWS) {
        float *row = cnn_plane_at(plane, y, 0);
        for (int32_t i = columns[0] * plane->channels + CNN_STEP_COLUMN; i < columns[1] * plane->channels;
             i += CNN_STEP_COLUMNS)
            row[i] = mirror ? 127.5f : 0.0f;
    }
    CNN_STEP_SYNC();
}

/* ---- An image ---- */

/* Augments src [height,width,channels] in *plane, which may trade its pixels for spare's. */
CNN_STEP void augment_image(const cnn_augment_params *params, bool mirror, const uint8_t *src, cnn_plane *plane,
                            cnn_plane *spare, float *sums)
{
    const cnn_augment_serif *serif = &params->serif;
    cnn_plane_shift shift = {0, 0};
    augment_read_bytes(src, plane);
    const float before = augment_brightness(plane, sums);
    if (serif->flag || serif->foot || serif->bar) {
        augment_fill_border(plane, false);
        shift = augment_draw_serif(serif, plane, spare, sums);
    }
    if (params->stroke < 0.0f || params->stroke > 0.0f)
        augment_change_strokes(plane, spare, params->stroke, mirror, sums);
    augment_fill_border(plane, mirror);
    augment_resample(params, mirror, shift, plane, spare);
    augment_swap(plane, spare);
    if (!mirror)
        augment_restore_ink(plane, before, sums);
    if (params->blur < 0.0f || params->blur > 0.0f) {
        augment_fill_border(plane, mirror);
        augment_blur(plane, spare, params->blur);
        augment_swap(plane, spare);
    }
    if (params->contrast < 1.0f || params->contrast > 1.0f)
        augment_change_contrast(plane, params->contrast, mirror);
    if (params->cutout > 0.0f)
        augment_cut_out(plane, params, mirror);
}

#endif
