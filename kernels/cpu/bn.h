/* What batch normalization alone (bn.c) and with pooling (bn_pool.c) share. Vectors are [channels]. */
#ifndef CNN_CPU_BN_H
#define CNN_CPU_BN_H

#include "kernels/cpu/columns.h"

/* MEAN, VAR and INVSTD of BN_TRAIN in `args` from its SRC. shift: a scratch vector; workspace: what `columns` needs. */
void cnn_bn_statistics(const cnn_columns *columns, void *workspace, float *shift, float eps,
                       void *const args[CNN_ARG_COUNT]);

/* invstd = 1/sqrt(var + eps), as BN_INFER needs it. */
void cnn_bn_invstd(int32_t channels, float eps, const float *var, float *invstd);

/* What dx = scale*(dy - mean_dy - xhat*mean_dot) needs, and dgamma and dbeta, from sum dy and sum dy*xhat over `pixels`
 * pixels. */
void cnn_bn_finish_gradient(int32_t channels, int64_t pixels, const double *sum, const double *dot,
                            void *const args[CNN_ARG_COUNT], float *scale, float *mean_dy, float *mean_dot);

#endif
