/* Where the time of a batch goes, instruction by instruction. */
#ifndef CNN_INFER_PROFILE_H
#define CNN_INFER_PROFILE_H

#include "cli/json.h"
#include "cnn/session.h"

typedef struct infer_profile_row {
    const char *layer, *ends_in; /* "conv1" ... "pool1"; names of the model's */
    const char *op, *kernel;     /* "conv"; "cnn_cpu_conv_..." */
    int64_t macs;
    double ms; /* median of the runs */
} infer_profile_row;

typedef struct infer_profile {
    infer_profile_row *rows; /* [count], in the order they run */
    int count, runs;
    double ms; /* sum of the rows */
} infer_profile;

/* Runs a batch some more times with a clock at every instruction. images: [batch,H,W,C], logits: [batch,classes]. */
cnn_status infer_profile_measure(cnn_session *session, const uint8_t *images, int batch, float *logits,
                                 infer_profile *profile);
void infer_profile_free(infer_profile *profile);

/* A table on standard output. */
cnn_status infer_profile_print(const infer_profile *profile);

/* The array "layers" of an open JSON object. */
void infer_profile_write(const infer_profile *profile, cnn_json *json);

#endif
