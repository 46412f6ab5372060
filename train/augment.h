/* Augmentation: what is changed in a training image, and how.
 *
 * Three steps, each in a file of its own:
 *   recipe   kinds and strengths, from a list as "shift=2,rotate,serif"          augment_recipe.c
 *   draw     counter hashes -> the parameters of one image: no pixels, no state  augment_draw.c
 *   apply    image and parameters -> augmented image                             kernels/augment
 *
 * Random number k of an image is u(k) = uniform(splitmix64(hash(seed, CNN_PURPOSE_AUGMENT, epoch, image) + k)) in [0,1)
 * (core/hash.h), image being its number in the data set. Each kind has numbers of its own, so that its strength changes
 * nothing in another kind, and parameters depend on no other image, batch, thread or device.
 *
 * Pixels are worked on in float, 0..255, in this order: serif, stroke, one bilinear resampling for all geometry, blur,
 * contrast, cutout; then they are rounded. Geometry maps the pixel p of the result to the place in the source
 *
 *     s = c + turn (p - c - move + flow(p)),   c = ((width-1)/2, (height-1)/2)
 *
 * where turn is the inverse of rotate * shear * scale * flip and flow the elastic field. Outside of the source lies 0,
 * or with `mirror` the image mirrored at its outermost pixels. */
#ifndef CNN_TRAIN_AUGMENT_H
#define CNN_TRAIN_AUGMENT_H

#include "cnn/dataset.h"
#include "kernels/augment/params.h"

/* In the order in which the affine ones act on the image. */
typedef enum cnn_augment_kind {
    CNN_AUGMENT_FLIP,
    CNN_AUGMENT_SCALE,
    CNN_AUGMENT_SHEAR,
    CNN_AUGMENT_ROTATE,
    CNN_AUGMENT_SHIFT,
    CNN_AUGMENT_CROP,
    CNN_AUGMENT_ELASTIC,
    CNN_AUGMENT_STROKE,
    CNN_AUGMENT_SERIF,
    CNN_AUGMENT_BLUR,
    CNN_AUGMENT_CONTRAST,
    CNN_AUGMENT_CUTOUT,
    CNN_AUGMENT_KINDS
} cnn_augment_kind;

/* ---- Recipe ---- */

typedef struct cnn_augment_recipe {
    float share;                       /* of the images of an epoch that are augmented */
    float strength[CNN_AUGMENT_KINDS]; /* in the unit of the kind; 0: off */
    bool mirror;                       /* what lies outside of an image: its mirror image instead of 0 */
    int one, seven;                    /* labels of the classes "1" and "7"; -1: none */
} cnn_augment_recipe;

/* Reads "kind[=strength],..." for a data set; list NULL: what suits the data. CNN_ERR_USAGE with a sentence for a kind
 * that is not known, twice there or of no use for the data, a strength out of range and a share outside of [0,1]. */
cnn_status cnn_augment_parse(const char *list, double share, const cnn_dataset *data, cnn_augment_recipe *recipe);

/* Writes the recipe as a list that parses to the same: "rotate=12,shift=1.5,serif=0.5". */
void cnn_augment_print(const cnn_augment_recipe *recipe, char *text, size_t bytes);

/* ---- Draw ---- */

/* The parameters of image number `image`, which has the label `label`, in an epoch. */
void cnn_augment_draw(const cnn_augment_recipe *recipe, uint64_t seed, int32_t epoch, int32_t image, int label,
                      cnn_augment_params *params);

/* The same for images[0..count) of a data set, in parallel. */
void cnn_augment_draw_batch(const cnn_augment_recipe *recipe, uint64_t seed, int32_t epoch, const cnn_dataset *data,
                            const int32_t *images, int count, cnn_augment_params *params);

#endif
