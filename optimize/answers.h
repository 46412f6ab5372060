/* What a model answers, image by image. */
#ifndef CNN_OPTIMIZE_ANSWERS_H
#define CNN_OPTIMIZE_ANSWERS_H

#include "cnn/session.h"
#include "optimize/calibrate.h"
#include "optimize/measure.h"

/* Logits of a list of images, [count,classes]. `progress` may be NULL; it hears how many images are done. */
cnn_status cnn_answers_logits(cnn_session *session, const cnn_image_list *images, int32_t classes,
                              cnn_measure_fn progress, void *context, float *logits);

/* The largest of an image's logits, the first of equal ones. */
int cnn_answers_best(const float *logits, int32_t classes);

/* The probability that softmax gives to a class. */
double cnn_answers_probability(const float *logits, int32_t classes, int label);

#endif
