/* What a teacher answers, for distillation.
 *
 * Images that training takes as they are it answers once, all before the first step. Those that augmentation changes
 * differ each time, and then it answers batch by batch to what the student sees: a teacher that speaks of the image as
 * it was is worse than none (Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", 2022).
 */
#ifndef CNN_TRAIN_TEACHER_H
#define CNN_TRAIN_TEACHER_H

#include "cnn/train.h"
#include "core/session.h"
#include "train/augment.h"

typedef struct cnn_teacher {
    const cnn_dataset *data;
    const cnn_augment_recipe *recipe; /* NULL: answered before the first step */
    cnn_session *student, *session;   /* session: of the teacher, while there is something to ask */
    uint8_t *images;                  /* [batch,H,W,C] as the student sees them */
    float *logits;                    /* [batch,classes] */
    float *scratch;                   /* of augmentation, for each task */
} cnn_teacher;

/* CNN_OK where options name no teacher, else why it cannot teach this data. */
cnn_status cnn_teacher_check(const cnn_dataset *data, const cnn_train_options *options);

/* Zero-initialize; begin when options name a teacher, with the student's session when it has its data. recipe: of the
 * run's augmentation, NULL if there is none. cnn_teacher_free is always allowed. */
cnn_status cnn_teacher_begin(cnn_teacher *teacher, cnn_session *student, const cnn_dataset *data,
                             const cnn_train_options *options, const cnn_augment_recipe *recipe, int batch);
void cnn_teacher_free(cnn_teacher *teacher);

/* With augmentation: answers the images of the next step, changed by `draws`. */
cnn_status cnn_teacher_answer(cnn_teacher *teacher, const cnn_augment_params *draws, const int32_t *index, int count);

#endif
