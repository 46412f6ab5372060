/* The data set "synth": 28x28 pictures of ten signs, made by formula, for tests and first steps without any file.
 *
 * A sign is a few straight strokes on a grid of 16 units. Image i of a subset shows class i % 10, turned by up to
 * 20 degrees, stretched and moved, with its own stroke width and brightness; two faint strokes that mean nothing and
 * noise lie over it. Everything is a hash of the image's number and integer arithmetic, so that the bytes are the
 * same everywhere. */
#include "core/dataset.h"

#include "core/error.h"
#include "core/hash.h"
#include "core/memory.h"

#include <string.h>

enum {
    SIDE = 28,
    CLASSES = 10,
    TRAIN_COUNT = 4000,
    TEST_COUNT = 1000,
    MAX_STROKES = 8,
    SUB = 16, /* positions are in 1/16 pixel */
    CENTRE = SIDE * SUB / 2,
    SOFT = SUB / 2, /* half the width of a stroke's soft edge */
    MAX_TURN = 20,  /* degrees */
    DISTRACTORS = 2
};

static const uint64_t synth_seed = 28;

/* Ends of a stroke, in grid units: 0..16 in the table. */
typedef struct stroke {
    int32_t x0, y0, x1, y1;
} stroke;

const char *const cnn_synth_classes[CLASSES] = {"ring",   "plus",  "cross", "triangle", "square",
                                                "zigzag", "arrow", "fork",  "hook",     "bars"};

static const stroke signs[CLASSES][MAX_STROKES] = {
    {{5, 1, 11, 1},
     {11, 1, 15, 5},
     {15, 5, 15, 11},
     {15, 11, 11, 15},
     {11, 15, 5, 15},
     {5, 15, 1, 11},
     {1, 11, 1, 5},
     {1, 5, 5, 1}},
    {{8, 1, 8, 15}, {1, 8, 15, 8}},
    {{2, 2, 14, 14}, {14, 2, 2, 14}},
    {{8, 1, 15, 14}, {15, 14, 1, 14}, {1, 14, 8, 1}},
    {{2, 2, 14, 2}, {14, 2, 14, 14}, {14, 14, 2, 14}, {2, 14, 2, 2}},
    {{2, 2, 14, 2}, {14, 2, 2, 14}, {2, 14, 14, 14}},
    {{8, 1, 8, 15}, {8, 1, 3, 6}, {8, 1, 13, 6}},
    {{8, 8, 8, 15}, {8, 8, 2, 1}, {8, 8, 14, 1}},
    {{11, 1, 11, 11}, {11, 11, 8, 15}, {8, 15, 4, 12}},
    {{2, 4, 14, 4}, {2, 12, 14, 12}},
};

/* 256 * sine of 0..20 degrees */
static const int16_t sine[MAX_TURN + 1] = {0,  4,  9,  13, 18, 22, 27, 31, 36, 40, 44,
                                           49, 53, 58, 62, 66, 71, 75, 79, 83, 88};
/* 256 * cosine of 0..20 degrees */
static const int16_t cosine[MAX_TURN + 1] = {256, 256, 256, 256, 255, 255, 255, 254, 254, 253, 252,
                                             251, 250, 249, 248, 247, 246, 245, 243, 242, 241};

/* The random numbers of one image: number k does not depend on how many were drawn. */
typedef struct synth_dice {
    uint64_t image, next;
} synth_dice;

/* Uniform in low..high, both included. */
static int32_t roll(synth_dice *dice, int32_t low, int32_t high)
{
    uint64_t hash = cnn_hash(synth_seed, CNN_PURPOSE_SYNTH, dice->image, dice->next++);
    return low + (int32_t)((hash >> 32) % (uint64_t)(high - low + 1));
}

/* Squared distance from (x, y) to the stroke, in (1/16 pixel)^2. */
static int64_t distance2(const stroke *s, int32_t x, int32_t y)
{
    int64_t dx = s->x1 - s->x0, dy = s->y1 - s->y0, px = x - s->x0, py = y - s->y0;
    int64_t along = px * dx + py * dy, length2 = dx * dx + dy * dy;
    if (along <= 0 || length2 == 0)
        return px * px + py * py;
    if (along >= length2) {
        int64_t qx = x - s->x1, qy = y - s->y1;
        return qx * qx + qy * qy;
    }
    int64_t across = px * dy - py * dx;
    return across * across / length2;
}

static int32_t clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Draws a stroke of `radius` (1/16 pixel) and brightness 0..255, keeping the brighter of old and new.
 * plane: [28,28] */
static void draw(int32_t *plane, const stroke *s, int32_t radius, int32_t brightness)
{
    int32_t reach = radius + SOFT;
    int64_t outer = (int64_t)reach * reach, inner = (int64_t)(radius - SOFT) * (radius - SOFT);
    int32_t left = s->x0 < s->x1 ? s->x0 : s->x1, right = s->x0 + s->x1 - left;
    int32_t top = s->y0 < s->y1 ? s->y0 : s->y1, bottom = s->y0 + s->y1 - top;
    int32_t first_x = clamp((left - reach) / SUB, 0, SIDE), last_x = clamp((right + reach) / SUB, -1, SIDE - 1);
    int32_t first_y = clamp((top - reach) / SUB, 0, SIDE), last_y = clamp((bottom + reach) / SUB, -1, SIDE - 1);
    for (int32_t y = first_y; y <= last_y; y++)
        for (int32_t x = first_x; x <= last_x; x++) {
            int64_t d2 = distance2(s, x * SUB + SUB / 2, y * SUB + SUB / 2);
            if (d2 >= outer)
                continue;
            int32_t value = d2 <= inner ? brightness : (int32_t)(brightness * (outer - d2) / (outer - inner));
            if (value > plane[y * SIDE + x])
                plane[y * SIDE + x] = value;
        }
}

/* How a sign lies in its image. */
typedef struct synth_pose {
    int32_t sine, cosine;     /* of the turn, * 256 */
    int32_t scale_x, scale_y; /* 1/16 pixel a grid unit */
    int32_t x, y;             /* of the sign's middle, 1/16 pixel */
} synth_pose;

static void place(const synth_pose *pose, int32_t grid_x, int32_t grid_y, int32_t *x, int32_t *y)
{
    int32_t u = (grid_x - 8) * pose->scale_x, v = (grid_y - 8) * pose->scale_y;
    *x = pose->x + (u * pose->cosine - v * pose->sine) / 256;
    *y = pose->y + (u * pose->sine + v * pose->cosine) / 256;
}

static bool same_point(const stroke *s)
{
    return s->x0 == s->x1 && s->y0 == s->y1;
}

static void draw_sign(synth_dice *dice, int class, int32_t *plane)
{
    int32_t turn = roll(dice, -MAX_TURN, MAX_TURN), degrees = turn < 0 ? -turn : turn;
    synth_pose pose = {.sine = turn < 0 ? -sine[degrees] : sine[degrees], .cosine = cosine[degrees]};
    pose.scale_x = roll(dice, 14, 21);
    pose.scale_y = roll(dice, 14, 21);
    pose.x = CENTRE + roll(dice, -3 * SUB, 3 * SUB);
    pose.y = CENTRE + roll(dice, -3 * SUB, 3 * SUB);
    int32_t radius = roll(dice, 12, 24), brightness = roll(dice, 130, 255);
    for (int i = 0; i < MAX_STROKES && !same_point(&signs[class][i]); i++) {
        const stroke *from = &signs[class][i];
        stroke to;
        place(&pose, from->x0, from->y0, &to.x0, &to.y0);
        place(&pose, from->x1, from->y1, &to.x1, &to.y1);
        draw(plane, &to, radius, brightness);
    }
}

static void draw_distractors(synth_dice *dice, int32_t *plane)
{
    for (int i = 0; i < DISTRACTORS; i++) {
        stroke s = {.x0 = roll(dice, 0, SIDE * SUB), .y0 = roll(dice, 0, SIDE * SUB)};
        s.x1 = s.x0 + roll(dice, -8 * SUB, 8 * SUB);
        s.y1 = s.y0 + roll(dice, -8 * SUB, 8 * SUB);
        int32_t radius = roll(dice, 9, 16), brightness = roll(dice, 60, 140);
        draw(plane, &s, radius, brightness);
    }
}

/* Adds noise, the sum of two even ones, on a gray ground. pixels: [28,28] */
static void finish(synth_dice *dice, const int32_t *plane, uint8_t *pixels)
{
    int32_t ground = roll(dice, 0, 40), amplitude = roll(dice, 8, 32);
    for (int i = 0; i < SIDE * SIDE; i++) {
        uint64_t hash = cnn_hash(synth_seed, CNN_PURPOSE_SYNTH, dice->image, dice->next++);
        int32_t noise = (int32_t)((hash >> 32 & 255) + (hash >> 40 & 255)) - 255; /* -255..255 */
        int32_t value = ground + plane[i] * (255 - ground) / 255 + noise * amplitude / 128;
        pixels[i] = (uint8_t)clamp(value, 0, 255);
    }
}

cnn_status cnn_synth_load(cnn_subset subset, cnn_dataset *dataset)
{
    bool test = subset == CNN_SUBSET_TEST;
    dataset->count = test ? TEST_COUNT : TRAIN_COUNT;
    dataset->height = dataset->width = SIDE;
    dataset->channels = 1;
    dataset->images = cnn_calloc((size_t)dataset->count, SIDE * SIDE);
    dataset->labels = cnn_calloc((size_t)dataset->count, 1);
    if (!dataset->images || !dataset->labels)
        return CNN_ERR_MEMORY; /* the caller frees what there is */
    for (int32_t i = 0; i < dataset->count; i++) {
        int32_t plane[SIDE * SIDE] = {0};
        synth_dice dice = {.image = (uint64_t)(test ? TRAIN_COUNT + i : i)};
        int class = i % CLASSES;
        draw_sign(&dice, class, plane);
        draw_distractors(&dice, plane);
        finish(&dice, plane, dataset->images + (size_t)i * SIDE * SIDE);
        dataset->labels[i] = (uint8_t) class;
    }
    return CNN_OK;
}
