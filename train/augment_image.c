/* Augmentation of pixels: the steps in their order, on floats between two planes. */
#include "train/augment_plane.h"

#include <string.h>

static const float thinnest = 1.6f;      /* strokes are not thinned below it, in pixels */
static const float most_restored = 1.6f; /* factor of brightness */

/* ---- Planes ---- */

static size_t plane_floats(cnn_augment_shape shape)
{
    return ((size_t)shape.height + 2) * ((size_t)shape.width + 2) * (size_t)shape.channels;
}

size_t cnn_augment_scratch(cnn_augment_shape shape)
{
    return 2 * plane_floats(shape);
}

static void read_bytes(const uint8_t *src, cnn_plane *plane)
{
    const int32_t values = plane->width * plane->channels;
    for (int32_t y = 0; y < plane->height; y++) {
        float *row = cnn_plane_at(plane, y, 0);
        for (int32_t i = 0; i < values; i++)
            row[i] = (float)src[(ptrdiff_t)y * values + i];
    }
}

static float clamp(float value, float low, float high)
{
    return value < low ? low : value > high ? high : value;
}

static void write_bytes(const cnn_plane *plane, uint8_t *dst)
{
    const int32_t values = plane->width * plane->channels;
    for (int32_t y = 0; y < plane->height; y++) {
        const float *row = cnn_plane_at(plane, y, 0);
        for (int32_t i = 0; i < values; i++)
            dst[(ptrdiff_t)y * values + i] = (uint8_t)(clamp(row[i], 0.0f, 255.0f) + 0.5f);
    }
}

/* Fills the border: with 0, or with the nearest pixel. */
static void fill_border(cnn_plane *plane, bool nearest)
{
    const size_t pixel = (size_t)plane->channels * sizeof(float), row = ((size_t)plane->width + 2) * pixel;
    for (int32_t y = 0; y < plane->height; y++)
        for (int32_t side = 0; side < 2; side++) {
            float *at = cnn_plane_at(plane, y, side ? plane->width : -1);
            if (nearest)
                memcpy(at, cnn_plane_at(plane, y, side ? plane->width - 1 : 0), pixel);
            else
                memset(at, 0, pixel);
        }
    for (int32_t side = 0; side < 2; side++) {
        float *at = cnn_plane_at(plane, side ? plane->height : -1, -1);
        if (nearest)
            memcpy(at, cnn_plane_at(plane, side ? plane->height - 1 : 0, -1), row);
        else
            memset(at, 0, row);
    }
}

static void swap(cnn_plane *a, cnn_plane *b)
{
    float *pixels = a->pixels;
    a->pixels = b->pixels;
    b->pixels = pixels;
}

/* ---- Stroke width ---- */

/* The extreme among a pixel's four neighbours and itself, and among all eight: their mean moves edges by one pixel
 * across and by 1.06 along the diagonal. up, row, down point at the pixel in three rows; step is the way to the next.
 */
static float grown(const float *up, const float *row, const float *down, ptrdiff_t step)
{
    const float cross = cnn_higher(cnn_higher(cnn_higher(up[0], down[0]), cnn_higher(row[-step], row[step])), row[0]);
    const float corners = cnn_higher(cnn_higher(up[-step], up[step]), cnn_higher(down[-step], down[step]));
    return 0.5f * (cross + cnn_higher(cross, corners));
}

static float shrunk(const float *up, const float *row, const float *down, ptrdiff_t step)
{
    const float cross = cnn_lower(cnn_lower(cnn_lower(up[0], down[0]), cnn_lower(row[-step], row[step])), row[0]);
    const float corners = cnn_lower(cnn_lower(up[-step], up[step]), cnn_lower(down[-step], down[step]));
    return 0.5f * (cross + cnn_lower(cross, corners));
}

/* Moves all edges by `by` <= 1 pixel, outwards or inwards: `by` of the way to the image whose edges moved by one. */
static void move_edges(const cnn_plane *src, cnn_plane *dst, float by, bool outwards)
{
    const int32_t values = src->width * src->channels;
    for (int32_t y = 0; y < src->height; y++) {
        const float *up = cnn_plane_at(src, y - 1, 0), *row = cnn_plane_at(src, y, 0),
                    *down = cnn_plane_at(src, y + 1, 0);
        float *out = cnn_plane_at(dst, y, 0);
        const ptrdiff_t step = src->channels;
        if (outwards)
            for (int32_t i = 0; i < values; i++)
                out[i] = row[i] + by * (grown(up + i, row + i, down + i, step) - row[i]);
        else
            for (int32_t i = 0; i < values; i++)
                out[i] = row[i] + by * (shrunk(up + i, row + i, down + i, step) - row[i]);
    }
}

static void change_strokes(cnn_plane *plane, cnn_plane *spare, float pixels, bool mirror)
{
    float left = 0.5f * pixels; /* each side */
    const bool outwards = pixels > 0.0f;
    fill_border(plane, mirror);
    if (!outwards)
        left = clamp(-left, 0.0f, cnn_higher(0.0f, 0.5f * (cnn_plane_stroke_width(plane) - thinnest)));
    while (left > 0.0f) {
        move_edges(plane, spare, cnn_lower(left, 1.0f), outwards);
        swap(plane, spare);
        fill_border(plane, mirror);
        left -= 1.0f;
    }
}

/* ---- Geometry ---- */

/* The cubic B-spline's weights on the four nodes around a position, and the first of them. */
typedef struct spline {
    int first;
    float weight[4];
} spline;

/* Position i of n pixels on CNN_AUGMENT_CELLS cells. */
static spline spline_at(int32_t i, int32_t n)
{
    const float at = ((float)i + 0.5f) * (float)CNN_AUGMENT_CELLS / (float)n;
    const int cell = at < (float)CNN_AUGMENT_CELLS ? (int)at : CNN_AUGMENT_CELLS - 1;
    const float t = at - (float)cell, s = 1.0f - t;
    return (spline){.first = cell,
                    .weight = {s * s * s / 6.0f, (4.0f - 3.0f * t * t * (1.0f + s)) / 6.0f,
                               (4.0f - 3.0f * s * s * (1.0f + t)) / 6.0f, t * t * t / 6.0f}};
}

/* The field along one row: x, y at the nodes. */
static void flow_row(const cnn_augment_params *params, int32_t y, int32_t height, float row[2][CNN_AUGMENT_NODES])
{
    const spline s = spline_at(y, height);
    for (int axis = 0; axis < 2; axis++)
        for (int column = 0; column < CNN_AUGMENT_NODES; column++) {
            float sum = 0.0f;
            for (int k = 0; k < 4; k++)
                sum += s.weight[k] * params->flow[axis][s.first + k][column];
            row[axis][column] = sum;
        }
}

static float flow_at(const spline *s, const float nodes[CNN_AUGMENT_NODES])
{
    float sum = 0.0f;
    for (int k = 0; k < 4; k++)
        sum += s->weight[k] * nodes[s->first + k];
    return sum;
}

/* Brings a position into the image or, without mirror, its border, which is 0. Mirrors once: what lies beyond a whole
 * image is taken from its edge. */
static float fold(float at, int32_t n, bool mirror)
{
    const float last = (float)(n - 1);
    if (!mirror)
        return clamp(at, -1.0f, last + 1.0f);
    at = at < 0.0f ? -at : at > last ? 2.0f * last - at : at;
    return clamp(at, 0.0f, last);
}

/* Bilinear: the four pixels around (x, y), which lies in the image or its border. */
static void sample(const cnn_plane *src, float x, float y, float *dst)
{
    int32_t left = (int32_t)(x + 1.0f) - 1, top = (int32_t)(y + 1.0f) - 1;
    left = left < src->width ? left : src->width - 1;
    top = top < src->height ? top : src->height - 1;
    const float right_share = x - (float)left, lower_share = y - (float)top;
    const float *above = cnn_plane_at(src, top, left), *below = cnn_plane_at(src, top + 1, left);
    const int32_t channels = src->channels;
    for (int32_t c = 0; c < channels; c++) {
        const float up = above[c] + right_share * (above[c + channels] - above[c]);
        const float down = below[c] + right_share * (below[c + channels] - below[c]);
        dst[c] = up + lower_share * (down - up);
    }
}

/* serif: where serifs moved the centre of mass, which the result keeps in place. */
static void resample(const cnn_augment_params *params, bool mirror, cnn_plane_shift serif, const cnn_plane *src,
                     cnn_plane *dst)
{
    const float cx = 0.5f * (float)(src->width - 1), cy = 0.5f * (float)(src->height - 1);
    float nodes[2][CNN_AUGMENT_NODES];
    for (int32_t y = 0; y < src->height; y++) {
        float *out = cnn_plane_at(dst, y, 0);
        flow_row(params, y, src->height, nodes);
        for (int32_t x = 0; x < src->width; x++, out += src->channels) {
            float dx = (float)x - cx - params->move[0], dy = (float)y - cy - params->move[1];
            if (params->flows) {
                const spline s = spline_at(x, src->width);
                dx += flow_at(&s, nodes[0]);
                dy += flow_at(&s, nodes[1]);
            }
            const float sx = cx + serif.x + params->turn[0][0] * dx + params->turn[0][1] * dy;
            const float sy = cy + serif.y + params->turn[1][0] * dx + params->turn[1][1] * dy;
            sample(src, fold(sx, src->width, mirror), fold(sy, src->height, mirror), out);
        }
    }
}

/* ---- Edges, brightness, holes ---- */

/* Brightness of the ink: the mean of the pixels, each with its own value as weight. */
static float brightness(const cnn_plane *plane)
{
    float sum = 0.0f, squares = 0.0f;
    for (int32_t y = 0; y < plane->height; y++) {
        const float *row = cnn_plane_at(plane, y, 0);
        for (int32_t i = 0; i < plane->width * plane->channels; i++) {
            sum += row[i];
            squares += row[i] * row[i];
        }
    }
    return sum > 0.0f ? squares / sum : 0.0f;
}

static void change_contrast(cnn_plane *plane, float factor, bool mirror)
{
    const float pivot = mirror ? 127.5f : 0.0f;
    const int32_t values = plane->width * plane->channels;
    for (int32_t y = 0; y < plane->height; y++) {
        float *row = cnn_plane_at(plane, y, 0);
        for (int32_t i = 0; i < values; i++)
            row[i] = pivot + factor * (row[i] - pivot);
    }
}

/* Thinning and resampling dim strokes, but drawings have full ink: brings the ink's brightness back to `before`. */
static void restore_ink(cnn_plane *plane, float before)
{
    const float now = brightness(plane);
    if (now > 0.0f && now < before)
        change_contrast(plane, cnn_lower(before / now, most_restored), false);
}

/* (1 2 1)/4 in both directions; by > 0: that share of the smoothed image, by < 0: away from it. */
static void blur(const cnn_plane *src, cnn_plane *dst, float by)
{
    const ptrdiff_t step = src->channels;
    const int32_t values = src->width * src->channels;
    for (int32_t y = 0; y < src->height; y++) {
        const float *up = cnn_plane_at(src, y - 1, 0), *row = cnn_plane_at(src, y, 0),
                    *down = cnn_plane_at(src, y + 1, 0);
        float *out = cnn_plane_at(dst, y, 0);
        for (int32_t i = 0; i < values; i++) {
            const float left = up[i - step] + 2.0f * row[i - step] + down[i - step];
            const float middle = up[i] + 2.0f * row[i] + down[i];
            const float right = up[i + step] + 2.0f * row[i + step] + down[i + step];
            out[i] = row[i] + by * ((left + 2.0f * middle + right) * 0.0625f - row[i]);
        }
    }
}

/* First and last + 1 pixel of n that lie in the square. */
static void cut_range(float centre, float side, int32_t n, int32_t range[2])
{
    const int32_t first = (int32_t)(centre * (float)n) - (int32_t)side / 2;
    const int32_t last = first + (int32_t)side;
    range[0] = first < 0 ? 0 : first;
    range[1] = last > n ? n : last;
}

static void cut_out(cnn_plane *plane, const cnn_augment_params *params, bool mirror)
{
    int32_t columns[2], rows[2];
    cut_range(params->cutout_at[0], params->cutout, plane->width, columns);
    cut_range(params->cutout_at[1], params->cutout, plane->height, rows);
    for (int32_t y = rows[0]; y < rows[1]; y++) {
        float *row = cnn_plane_at(plane, y, 0);
        for (int32_t i = columns[0] * plane->channels; i < columns[1] * plane->channels; i++)
            row[i] = mirror ? 127.5f : 0.0f;
    }
}

/* ---- An image ---- */

void cnn_augment_apply(const cnn_augment_recipe *recipe, const cnn_augment_params *params, cnn_augment_shape shape,
                       const uint8_t *src, uint8_t *dst, float *scratch)
{
    const bool mirror = recipe->mirror;
    const cnn_augment_serif *serif = &params->serif;
    cnn_plane_shift shift = {0, 0};
    cnn_plane plane = {scratch, shape.height, shape.width, shape.channels}, spare = plane;
    spare.pixels = scratch + plane_floats(shape);
    if (!params->augmented) {
        memcpy(dst, src, (size_t)shape.height * (size_t)shape.width * (size_t)shape.channels);
        return;
    }
    read_bytes(src, &plane);
    const float before = brightness(&plane);
    if (serif->flag || serif->foot || serif->bar) {
        fill_border(&plane, false);
        shift = cnn_augment_draw_serif(serif, &plane);
    }
    if (params->stroke < 0.0f || params->stroke > 0.0f)
        change_strokes(&plane, &spare, params->stroke, mirror);
    fill_border(&plane, mirror);
    resample(params, mirror, shift, &plane, &spare);
    swap(&plane, &spare);
    if (!mirror)
        restore_ink(&plane, before);
    if (params->blur < 0.0f || params->blur > 0.0f) {
        fill_border(&plane, mirror);
        blur(&plane, &spare, params->blur);
        swap(&plane, &spare);
    }
    if (params->contrast < 1.0f || params->contrast > 1.0f)
        change_contrast(&plane, params->contrast, mirror);
    if (params->cutout > 0.0f)
        cut_out(&plane, params, mirror);
    write_bytes(&plane, dst);
}
