/* Inputs crafted to fool a model, and what may be done about them.
 *
 * An attack looks for an image within eps of each given one, pixel by pixel, that the model takes for another class:
 *   fgsm   x + eps*sign(g)                                (Goodfellow et al., "Explaining and harnessing ...", 2015)
 *   pgd    from a random place in the ball, `steps` times x = clip(x + step*sign(g)), `restarts` times over
 *                                                         (Madry et al., "Towards deep learning models ...", 2018)
 * where g is the gradient of the loss with regard to the pixels and clip keeps every pixel in [0,1] and within eps of
 * its own. Pixels are in [0,1]: eps 0.1 is 25.5 of 255 levels. A float model is given pixels of any value in between,
 * an INT8 model bytes. Every image on the way counts, not only the last. */
#ifndef CNN_ROBUST_H
#define CNN_ROBUST_H

#include "cnn/dataset.h"
#include "cnn/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What may undo a small change of an image before a model reads it, in this order: the median of 3x3 pixels; the
 * nearest of 2^bits levels (0: all 256 stay); the centre of mass moved into the middle, of images with one channel,
 * bright on dark. An answer that changes under it is a sign that somebody made the image so. It stops nobody who
 * reckons with it. */
typedef struct cnn_sanitize_options {
    bool median;
    int bits; /* 0 to 8 */
    bool centre;
} cnn_sanitize_options;

typedef enum cnn_attack_method { CNN_ATTACK_FGSM, CNN_ATTACK_PGD, CNN_ATTACK_COUNT } cnn_attack_method;

/* Images done so far. False ends the attack with CNN_ERR_CANCELLED. */
typedef bool (*cnn_attack_fn)(void *context, int64_t done, int64_t all);

typedef struct cnn_attack_options {
    const char *device; /* as cnn_session_options has it */
    int batch;          /* images at once; 0: 64 */
    cnn_attack_method method;
    double eps;   /* in (0, 1] */
    int steps;    /* of pgd */
    double step;  /* of pgd, in (0, 1] */
    int restarts; /* of pgd, from 1; with more than one random_start must be set */
    bool random_start;
    uint64_t seed; /* random starts follow from (seed, number of the image in the data, restart) */

    /* Where gradients come from: another model that reads the same images, as an attacker has it who does not know the
     * attacked one (transfer). NULL: the attacked model itself; those of an INT8 model are straight-through ones. */
    cnn_model *source;

    /* The attacked model reads images that were sanitized so, and the attacker knows: gradients are those of the
     * sanitized image, sanitizing taken for the identity (Athalye et al., "Obfuscated gradients give a false sense of
     * security", 2018). Images are then bytes for float models, too. NULL: it reads them as they are. */
    const cnn_sanitize_options *sanitize;

    cnn_attack_fn progress; /* may be NULL */
    void *context;
} cnn_attack_options;

/* pgd, eps 0.1, 40 steps of 0.01, random start, 5 restarts, seed 1. */
CNN_API void cnn_attack_options_init(cnn_attack_options *options);

typedef struct cnn_attack_result {
    int64_t images;
    int64_t clean;     /* right answers to the images without an attack */
    int64_t attacked;  /* right answers whatever the attack tried */
    int64_t gradients; /* images that one was computed for */
} cnn_attack_result;

/* Attacks the model with the images index[0..count) of the data (index NULL: images 0..count). found, when not NULL,
 * receives [count,H,W,C] bytes: where the attack won an image that fools the model, else the last it tried, rounded to
 * bytes within eps; an image that the model gets wrong as it is stays as it is. The model, its sources and the data
 * stay unchanged. Same bits with any number of threads. */
CNN_API cnn_status cnn_attack(cnn_model *model, const cnn_dataset *data, const int32_t *index, int64_t count,
                              const cnn_attack_options *options, uint8_t *found, cnn_attack_result *result);

/* images, sanitized: [count,H,W,C] bytes, which do not overlap; shape: H, W and C of one image. */
CNN_API cnn_status cnn_sanitize(const cnn_sanitize_options *options, const cnn_tensor_desc *shape,
                                const uint8_t *images, int64_t count, uint8_t *sanitized);

#ifdef __cplusplus
}
#endif
#endif
