/* The parameters of an image's augmentation, drawn from counter hashes. One function a kind. */
#include "train/augment_kinds.h"

#include "core/hash.h"
#include "core/pool.h"

/* ---- Numbers ---- */

enum { NUMBERS_OF_KIND = 4096 };

/* Number k of the kind, in [0,1). */
static float number(const cnn_augment_dice *dice, int k)
{
    const uint64_t counter = (uint64_t)dice->kind * NUMBERS_OF_KIND + (uint64_t)k;
    return cnn_hash_uniform(cnn_splitmix64(dice->key + counter));
}

static float between(const cnn_augment_dice *dice, int k, float low, float high)
{
    return low + (high - low) * number(dice, k);
}

/* In [-limit, limit). */
static float either_way(const cnn_augment_dice *dice, int k, float limit)
{
    return between(dice, k, -limit, limit);
}

/* Cosine and sine of an angle: quarter turns taken off, then the Taylor series up to a^16, whose error for a <= pi/4 is
 * below 1e-17. Own formulas: no bit depends on the C library. */
static void direction(float degrees, float along[2])
{
    double quarter = (double)degrees / 90.0;
    int quarters = (int)(quarter < 0.0 ? quarter - 0.5 : quarter + 0.5);
    const double angle = (quarter - quarters) * (0.5 * 3.14159265358979323846);
    const double square = angle * angle;
    double cosine = 1.0, sine = 1.0;
    for (int k = 16; k >= 2; k -= 2) {
        cosine = 1.0 - cosine * square / (double)(k * (k - 1));
        sine = 1.0 - sine * square / (double)(k * (k + 1));
    }
    sine *= angle;
    for (; quarters & 3; quarters--) {
        const double turned = cosine;
        cosine = -sine;
        sine = turned;
    }
    along[0] = (float)cosine;
    along[1] = (float)sine;
}

/* ---- Geometry ---- */

/* turn = turn * matrix: the inverse of a map that acts after those so far stands to the right of theirs. */
static void then(cnn_augment_params *params, float xx, float xy, float yx, float yy)
{
    for (int row = 0; row < 2; row++) {
        const float x = params->turn[row][0], y = params->turn[row][1];
        params->turn[row][0] = x * xx + y * yx;
        params->turn[row][1] = x * xy + y * yy;
    }
}

void cnn_augment_flip(const cnn_augment_dice *dice, float share, cnn_augment_params *params)
{
    if (number(dice, 0) < share)
        then(params, -1, 0, 0, 1);
}

/* Size by a factor in [1-s, 1+s), width over height by a factor in [1-s/2, 1+s/2), half of it to each. */
void cnn_augment_scale(const cnn_augment_dice *dice, float most, cnn_augment_params *params)
{
    const float size = 1.0f + either_way(dice, 0, most);
    const float aspect = 1.0f + either_way(dice, 1, most * 0.25f);
    then(params, 1.0f / (size * aspect), 0, 0, aspect / size);
}

/* x += k y, about the centre. */
void cnn_augment_shear(const cnn_augment_dice *dice, float most, cnn_augment_params *params)
{
    then(params, 1, -either_way(dice, 0, most), 0, 1);
}

void cnn_augment_rotate(const cnn_augment_dice *dice, float degrees, cnn_augment_params *params)
{
    float along[2];
    direction(either_way(dice, 0, degrees), along);
    then(params, along[0], along[1], -along[1], along[0]);
}

void cnn_augment_shift(const cnn_augment_dice *dice, float pixels, cnn_augment_params *params)
{
    params->move[0] += either_way(dice, 0, pixels);
    params->move[1] += either_way(dice, 1, pixels);
}

/* Whole pixels, each of 2 n + 1 places alike. */
void cnn_augment_crop(const cnn_augment_dice *dice, float pixels, cnn_augment_params *params)
{
    for (int axis = 0; axis < 2; axis++) {
        const int place = (int)((2.0 * (double)pixels + 1.0) * (double)number(dice, axis));
        params->move[axis] += (float)place - pixels;
    }
}

/* Simard, Steinkraus, Platt 2003: a field of uniform noise, smoothed. A cubic B-spline on noise at nodes h pixels apart
 * smooths like a Gaussian of h/sqrt(3): on 28x28 images with 4 cells that is 4.04 pixels, their 4. In the mean over
 * positions the squares of its weights sum to (151/315)^2 and uniform noise in [-a,a] has variance a^2/3; hence
 * a = 315 sqrt(3) / 151 times the root mean square of the field. Their strength 34 is 1.38 pixels here. */
void cnn_augment_elastic(const cnn_augment_dice *dice, float rms, cnn_augment_params *params)
{
    const float most = rms * 3.6132454f;
    int k = 0;
    params->flows = true;
    for (int axis = 0; axis < 2; axis++)
        for (int row = 0; row < CNN_AUGMENT_NODES; row++)
            for (int column = 0; column < CNN_AUGMENT_NODES; column++)
                params->flow[axis][row][column] = either_way(dice, k++, most);
}

/* ---- Strokes and brightness ---- */

void cnn_augment_stroke(const cnn_augment_dice *dice, float pixels, cnn_augment_params *params)
{
    params->stroke = either_way(dice, 0, pixels);
}

/* A written 1 has a flag that falls from its top; two in three of those have a foot. */
static void draw_one(const cnn_augment_dice *dice, cnn_augment_serif *serif)
{
    serif->flag = true;
    serif->flag_length = between(dice, 1, 0.2f, 0.5f);
    direction(between(dice, 2, 28, 55), serif->flag_turn);
    serif->foot = number(dice, 3) < 2.0f / 3.0f;
    serif->foot_length[0] = between(dice, 4, 0.15f, 0.32f);
    serif->foot_length[1] = between(dice, 5, 0.15f, 0.32f);
    direction(either_way(dice, 6, 8), serif->foot_along);
}

static void draw_seven(const cnn_augment_dice *dice, cnn_augment_serif *serif)
{
    serif->bar = true;
    serif->bar_height = between(dice, 1, 0.45f, 0.6f);
    serif->bar_length = between(dice, 2, 0.16f, 0.26f);
    direction(between(dice, 3, -18, 8), serif->bar_along);
}

void cnn_augment_serifs(const cnn_augment_dice *dice, float share, cnn_augment_params *params)
{
    if (number(dice, 0) >= share)
        return;
    params->serif.width = between(dice, 7, 0.75f, 1.0f);
    if (dice->label == dice->recipe->one)
        draw_one(dice, &params->serif);
    else if (dice->label == dice->recipe->seven)
        draw_seven(dice, &params->serif);
}

void cnn_augment_blur(const cnn_augment_dice *dice, float share, cnn_augment_params *params)
{
    params->blur = either_way(dice, 0, share);
}

void cnn_augment_contrast(const cnn_augment_dice *dice, float most, cnn_augment_params *params)
{
    params->contrast = 1.0f + either_way(dice, 0, most);
}

void cnn_augment_cutout(const cnn_augment_dice *dice, float side, cnn_augment_params *params)
{
    params->cutout = side;
    params->cutout_at[0] = number(dice, 0);
    params->cutout_at[1] = number(dice, 1);
}

/* ---- An image ---- */

void cnn_augment_draw(const cnn_augment_recipe *recipe, uint64_t seed, int32_t epoch, int32_t image, int label,
                      cnn_augment_params *params)
{
    cnn_augment_dice dice = {.recipe = recipe,
                             .label = label,
                             .key = cnn_hash(seed, CNN_PURPOSE_AUGMENT, (uint64_t)epoch, (uint64_t)image),
                             .kind = CNN_AUGMENT_KINDS};
    *params = (cnn_augment_params){.turn = {{1, 0}, {0, 1}}, .contrast = 1};
    params->augmented = number(&dice, 0) < recipe->share;
    if (!params->augmented)
        return;
    for (int kind = 0; kind < CNN_AUGMENT_KINDS; kind++) {
        dice.kind = (cnn_augment_kind)kind;
        if (recipe->strength[kind] > 0.0f)
            cnn_augment_kind_info(dice.kind)->draw(&dice, recipe->strength[kind], params);
    }
}

/* ---- A batch ---- */

enum { MAX_TASKS = 16 };

typedef struct draw_batch {
    const cnn_augment_recipe *recipe;
    uint64_t seed;
    int32_t epoch;
    const cnn_dataset *data;
    const int32_t *images;
    int count, tasks;
    cnn_augment_params *params;
} draw_batch;

static void draw_task(void *context, int task, int worker)
{
    const draw_batch *b = context;
    (void)worker;
    for (int i = task; i < b->count; i += b->tasks)
        cnn_augment_draw(b->recipe, b->seed, b->epoch, b->images[i], b->data->labels[b->images[i]], &b->params[i]);
}

void cnn_augment_draw_batch(const cnn_augment_recipe *recipe, uint64_t seed, int32_t epoch, const cnn_dataset *data,
                            const int32_t *images, int count, cnn_augment_params *params)
{
    draw_batch b = {recipe, seed, epoch, data, images, count, count < MAX_TASKS ? count : MAX_TASKS, params};
    cnn_parallel(b.tasks, draw_task, &b);
}
