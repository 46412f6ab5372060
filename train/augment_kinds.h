/* The table of kinds of augmentation. A new kind is an id in augment.h, one row in augment_recipe.c and a function in
 * augment_draw.c; if it is not geometry also a field in cnn_augment_params and a step in kernels/augment/image.h. */
#ifndef CNN_TRAIN_AUGMENT_KINDS_H
#define CNN_TRAIN_AUGMENT_KINDS_H

#include "train/augment.h"

/* The random numbers of one image for one kind. */
typedef struct cnn_augment_dice {
    const cnn_augment_recipe *recipe;
    int label;
    uint64_t key;
    cnn_augment_kind kind;
} cnn_augment_dice;

/* Changes the parameters as the kind does at that strength, which is above 0. */
typedef void (*cnn_augment_draw_fn)(const cnn_augment_dice *dice, float strength, cnn_augment_params *params);

typedef struct cnn_augment_info {
    const char *name;
    const char *strength;  /* what the number says */
    double standard, most; /* strength when none is given; the largest */
    bool whole;            /* only whole numbers */
    cnn_augment_draw_fn draw;
} cnn_augment_info;

const cnn_augment_info *cnn_augment_kind_info(cnn_augment_kind kind);

void cnn_augment_flip(const cnn_augment_dice *dice, float share, cnn_augment_params *params);
void cnn_augment_scale(const cnn_augment_dice *dice, float most, cnn_augment_params *params);
void cnn_augment_shear(const cnn_augment_dice *dice, float most, cnn_augment_params *params);
void cnn_augment_rotate(const cnn_augment_dice *dice, float degrees, cnn_augment_params *params);
void cnn_augment_shift(const cnn_augment_dice *dice, float pixels, cnn_augment_params *params);
void cnn_augment_crop(const cnn_augment_dice *dice, float pixels, cnn_augment_params *params);
void cnn_augment_elastic(const cnn_augment_dice *dice, float rms, cnn_augment_params *params);
void cnn_augment_stroke(const cnn_augment_dice *dice, float pixels, cnn_augment_params *params);
void cnn_augment_serifs(const cnn_augment_dice *dice, float share, cnn_augment_params *params);
void cnn_augment_blur(const cnn_augment_dice *dice, float share, cnn_augment_params *params);
void cnn_augment_contrast(const cnn_augment_dice *dice, float most, cnn_augment_params *params);
void cnn_augment_cutout(const cnn_augment_dice *dice, float side, cnn_augment_params *params);

#endif
