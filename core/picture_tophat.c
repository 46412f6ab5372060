/* Ink under light with hard edges: what an opening removes.
 *
 *     tophat(v) = v - dilate(erode(v))
 *
 * with a square of `side` pixels, clipped at the picture's border. Strokes narrower than the square stay; shadows, the
 * edges of sheets and whatever else is wider go, however sharp their edges are. */
#include "core/picture.h"

#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

/* The smallest (sign = 1) or largest (sign = -1) value in windows of 2 * reach + 1 values, clipped at the ends. The
 * queue holds the candidates of the current window, best first (a monotonic queue: each value enters and leaves once).
 */
static void extreme_line(float *values, int32_t size, size_t stride, int32_t reach, float sign, float *line,
                         int32_t *queue)
{
    int32_t first = 0, count = 0, next = 0;
    for (int32_t i = 0; i < size; i++)
        line[i] = sign * values[(size_t)i * stride];
    for (int32_t i = 0; i < size; i++) {
        for (; next < size && next <= i + reach; next++) {
            while (count > first && line[queue[count - 1]] >= line[next])
                count--;
            queue[count++] = next;
        }
        while (queue[first] < i - reach)
            first++;
        values[(size_t)i * stride] = sign * line[queue[first]];
    }
}

static void extreme(float *plane, int32_t height, int32_t width, int32_t reach, float sign, float *line, int32_t *queue)
{
    for (int32_t y = 0; y < height; y++)
        extreme_line(plane + (size_t)y * (size_t)width, width, 1, reach, sign, line, queue);
    for (int32_t x = 0; x < width; x++)
        extreme_line(plane + x, height, (size_t)width, reach, sign, line, queue);
}

cnn_status cnn_ink_tophat(float *ink, int32_t height, int32_t width, int32_t side, float *scratch)
{
    size_t longest = (size_t)(height > width ? height : width), count = (size_t)height * (size_t)width;
    float *line = cnn_calloc(longest, sizeof *line);
    int32_t *queue = cnn_calloc(longest, sizeof *queue);
    cnn_status status = line && queue ? CNN_OK : CNN_ERR_MEMORY;
    if (status == CNN_OK) {
        memcpy(scratch, ink, count * sizeof *ink);
        extreme(scratch, height, width, side / 2, 1, line, queue);
        extreme(scratch, height, width, side / 2, -1, line, queue);
        for (size_t i = 0; i < count; i++)
            ink[i] -= scratch[i];
    }
    free(line);
    free(queue);
    return status;
}
