/* Adversarial training (Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018): before
 * each step its images are changed, within eps, so that the model of now gets them as wrong as a few steps up the loss
 * can make it; those it then learns from. With one step from a random place it is "fast" (Wong et al., "Fast is better
 * than free", 2020).
 *
 * Steps read images from the data set that the session knows. Here that is a copy whose images are replaced, batch by
 * batch, each epoch from the true ones. What an image becomes follows from (seed, epoch, number of the image) and the
 * parameters of now, so a run that goes on from a checkpoint needs nothing else. */
#ifndef CNN_TRAIN_ADVERSARIAL_H
#define CNN_TRAIN_ADVERSARIAL_H

#include "cnn/train.h"
#include "core/session.h"

typedef struct cnn_adversary {
    const cnn_dataset *data; /* the true images */
    cnn_dataset changed;     /* the same with images of its own; what the session is given */
    cnn_session *session;
    uint64_t seed;
    float eps, step;
    int steps;
    float *origin, *at, *gradient; /* [batch,H,W,C], pixels in [0,1] */
    float *logits;                 /* [batch,classes] */
    uint8_t *labels;               /* [batch] */
} cnn_adversary;

/* Zero-initialize; begin when options ask for it, before the session gets its data. cnn_adversary_free is always
 * allowed, after the session is closed. */
cnn_status cnn_adversary_begin(cnn_adversary *adversary, cnn_session *session, const cnn_dataset *data,
                               const cnn_train_options *options, int batch);
void cnn_adversary_free(cnn_adversary *adversary);

/* Changes the images that the next step reads. */
cnn_status cnn_adversary_change(cnn_adversary *adversary, int32_t epoch, const int32_t *index, int count);

#endif
