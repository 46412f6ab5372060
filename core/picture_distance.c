/* Exact Euclidean distances, in columns by counting, then along rows as the least of k^2 + (distance in column i +
 * k)^2. Columns that are farther away than some target cannot have the least, and what is drawn is thin: looking
 * through the few that remain, many pixels at once, takes less time than the lower envelope of all parabolas. */
#include "core/picture.h"

#include "core/memory.h"
#include "core/wide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Squared distances in a picture stay below this: it stands for "there is none". */
static const float nowhere = 1e12f;

/* distance [height,width] = how far the nearest target lies above or below, row by row; nowhere, or more, if none. */
CNN_WIDE_BODY void columns_body(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, float *distance)
{
    for (int32_t y = 0; y < height; y++) {
        const uint8_t *row = mask + (size_t)y * (size_t)width;
        float *to = distance + (size_t)y * (size_t)width;
        for (int32_t x = 0; x < width; x++) {
            const float above = y > 0 ? to[x - width] + 1 : nowhere;
            to[x] = row[x] == target ? 0 : above;
        }
    }
    for (int32_t y = height - 2; y >= 0; y--) {
        float *to = distance + (size_t)y * (size_t)width;
        for (int32_t x = 0; x < width; x++) {
            const float below = to[x + width] + 1;
            to[x] = below < to[x] ? below : to[x];
        }
    }
}

CNN_WIDE(static, transform_columns, columns_body,
         (const uint8_t *mask, uint8_t target, int32_t height, int32_t width, float *distance),
         (mask, target, height, width, distance))

enum { TOGETHER = 16 }; /* pixels */

/* near[i] = the root of min over |k| <= reach of k^2 + far[i + k], for i < count, a multiple of TOGETHER */
CNN_WIDE_BODY void near_body(const float *restrict far, int32_t count, int32_t reach, float *restrict near)
{
    count = count / TOGETHER * TOGETHER; /* as the compiler is to know */
    for (int32_t i = 0; i < count; i++)
        near[i] = far[i];
    for (int32_t k = 1; k <= reach; k++) {
        const float square = (float)(k * k);
        for (int32_t i = 0; i < count; i++) {
            const float side = (far[i - k] < far[i + k] ? far[i - k] : far[i + k]) + square;
            near[i] = side < near[i] ? side : near[i];
        }
    }
    for (int32_t i = 0; i < count; i++)
        near[i] = sqrtf(near[i]);
}

CNN_WIDE(static, find_near, near_body, (const float *far, int32_t count, int32_t reach, float *near),
         (far, count, reach, near))

/* A row, and room for what find_near reads beside it. */
typedef struct row_room {
    float *far;  /* [3 * size + 4 * TOGETHER] */
    float *near; /* [size + TOGETHER] */
} row_room;

static cnn_status room_alloc(row_room *room, int32_t size)
{
    room->far = cnn_calloc(3 * (size_t)size + 4 * TOGETHER, sizeof *room->far);
    room->near = cnn_calloc((size_t)size + TOGETHER, sizeof *room->near);
    return room->far && room->near ? CNN_OK : CNN_ERR_MEMORY;
}

static void room_free(row_room *room)
{
    free(room->far);
    free(room->near);
}

/* row [count] becomes distances from those in columns; beside it lie targets, or nothing. */
static void transform_run(const row_room *room, float *row, int32_t count, int32_t reach, bool left, bool right)
{
    const int32_t whole = (count + TOGETHER - 1) / TOGETHER * TOGETHER;
    float *far = room->far + reach;
    for (int32_t i = -reach; i < 0; i++)
        far[i] = nowhere;
    for (int32_t i = 0; i < count; i++)
        far[i] = row[i] < nowhere ? row[i] * row[i] : nowhere;
    for (int32_t i = count; i < whole + reach; i++)
        far[i] = nowhere;
    if (left)
        far[-1] = 0;
    if (right)
        far[count] = 0;
    find_near(far, whole, reach, room->near);
    memcpy(row, room->near, (size_t)count * sizeof *row);
}

/* Distances of a row from those in columns. Each run between two targets is a row of its own: what lies beyond is
 * farther away than they are. */
static void transform_row(const row_room *room, float *row, int32_t size)
{
    for (int32_t i = 0, end; i < size; i = end + 1) {
        float most = 0;
        for (end = i; end < size && row[end] > 0; end++)
            most = row[end] > most ? row[end] : most;
        const int32_t count = end - i;
        const bool left = i > 0, right = end < size;
        int32_t reach = left && right ? (count + 1) / 2 : count; /* a target is as near, if there is one */
        if (most < (float)reach)
            reach = (int32_t)most;
        if (count > 0)
            transform_run(room, row + i, count, reach, left, right);
    }
}

cnn_status cnn_distance(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, float *distance)
{
    row_room room;
    cnn_status status = room_alloc(&room, width);
    if (status == CNN_OK)
        transform_columns(mask, target, height, width, distance);
    for (int32_t y = 0; status == CNN_OK && y < height; y++)
        transform_row(&room, distance + (size_t)y * (size_t)width, width);
    room_free(&room);
    return status;
}

cnn_status cnn_distance_near(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, int32_t reach,
                             float *distance)
{
    row_room room;
    const int32_t most = reach < width ? reach : width;
    cnn_status status = room_alloc(&room, width);
    if (status == CNN_OK)
        transform_columns(mask, target, height, width, distance);
    for (int32_t y = 0; status == CNN_OK && y < height; y++)
        transform_run(&room, distance + (size_t)y * (size_t)width, width, most, false, false);
    room_free(&room);
    return status;
}
