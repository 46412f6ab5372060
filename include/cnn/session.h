/* A session: one model on one device, with the programs made for it.
 *
 * The model must outlive the session. Only one thread may use a session at a time. */
#ifndef CNN_SESSION_H
#define CNN_SESSION_H

#include "cnn/dataset.h"
#include "cnn/model.h"
#include "cnn/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Threads that sessions of this process may use, the caller included. 0: as many as the CPUs it may run on. Not while
 * a session computes. Results never depend on it. */
CNN_API cnn_status cnn_set_threads(int threads);
CNN_API int cnn_get_threads(void);

typedef struct cnn_session cnn_session;

/* How parameters move along their gradients: SGD with momentum, Adam with weight decay as part of the gradient (L2), or
 * with weight decay beside it. Formulas: ops SGD and ADAM in cnn/ops.h. */
typedef enum cnn_optimizer {
    CNN_OPTIMIZER_SGD,
    CNN_OPTIMIZER_ADAM,
    CNN_OPTIMIZER_ADAMW,
    CNN_OPTIMIZER_COUNT
} cnn_optimizer;

/* What a training step computes beside the model. What may change from step to step is in cnn_train_state. */
typedef struct cnn_step_options {
    cnn_optimizer optimizer;
    float label_smoothing; /* of the loss, in [0, 1) */
    float distill;         /* share of the loss that compares with a teacher, in [0, 1]; 0: none ... */
    float temperature;     /* ... at which it does; formulas: op LOSS in cnn/ops.h */
    bool augment;          /* images are augmented, as cnn_train does */
    bool mirror;           /* what augmentation moves in from outside an image is its mirror image */
    bool dropout;          /* dropout layers drop values, by the seed; else they pass them on */
    uint64_t seed;
    bool ema; /* keep averages of parameters and BN statistics, with ema_decay of the state: evaluation
                 and cnn_session_pull give them, training goes on with the values themselves */
} cnn_step_options;

typedef struct cnn_session_options {
    const char *device;    /* "auto" (NULL), "cpu", "cpu:avx2", "cuda", "cuda:1", "ref" */
    int batch;             /* largest batch of one program; 0: 64 */
    bool train;            /* allow cnn_session_step */
    cnn_dtype storage;     /* training: CNN_F32 (or 0), CNN_F16, CNN_BF16 for activations and working weights.
                              Inference computes in f32, or INT8 when the model is quantized. */
    cnn_step_options step; /* training */
    bool tf32;             /* GPUs: products of f32 values may be rounded to TF32, 10 bits; else strict f32 */
    bool autotune;         /* GPUs: time the library's implementations instead of following its rules; results may
                              then differ from run to run */
} cnn_session_options;

CNN_API cnn_status cnn_session_open(cnn_model *model, const cnn_session_options *options, cnn_session **session);
CNN_API void cnn_session_close(cnn_session *session);

/* "cpu: AMD EPYC 9B14, avx512vnni, 2 threads" */
CNN_API const char *cnn_session_device(const cnn_session *session);

/* Makes what cnn_session_infer needs for `count` images, so that its first call does not. On devices that compute on
 * host memory this may be done on one thread while others prepare the images; elsewhere it does nothing. */
CNN_API cnn_status cnn_session_prepare(cnn_session *session, int64_t count);

/* images: [count,H,W,C] bytes; logits: [count,classes]. Any count; runs in batches. In a training session it uses
 * the parameters as they are now. */
CNN_API cnn_status cnn_session_infer(cnn_session *session, const uint8_t *images, int64_t count, float *logits);

/* Correct answers and mean loss of the images index[0..count) of a data set (index NULL: images 0..count). */
CNN_API cnn_status cnn_session_evaluate(cnn_session *session, const cnn_dataset *data, const int32_t *index,
                                        int64_t count, int64_t *correct, double *loss /* or NULL */);

/* Called with every node's value of a batch, in topological order. values: f32 [n,h,w,c] as desc says, without channel
 * padding. */
typedef cnn_status (*cnn_observe_fn)(void *context, int node, const cnn_tensor_desc *desc, const float *values);

/* Runs images index[0..count) and shows each node's output to `observe`: what calibration reads. Nothing is fused, so a
 * node whose value inference never materializes (a convolution before its ReLU) is still shown.
 *
 * Of a quantized model this is fake quantization: the INT8 program runs, and each node is shown as the numbers that
 * its integers stand for: scale * q of an int8 value, float(acc + bias) * (s_in * s_w[k]) of a sum that the ReLU behind
 * it requantizes, and the logits as they are, the same bits as those of cnn_session_infer. */
CNN_API cnn_status cnn_session_observe(cnn_session *session, const cnn_dataset *data, const int32_t *index,
                                       int64_t count, cnn_observe_fn observe, void *context);

/* What one instruction of a program did. */
typedef struct cnn_trace {
    int instruction, instructions; /* its number, of how many */
    int node;                      /* whose value or gradient it ends in; -1: none (the optimizer) */
    bool whole;                    /* dst is the node's value, not an accumulator that another instruction finishes */
    const char *layer;             /* name of the layer that it begins with, "conv1" ... */
    const char *ends_in;           /* ... and of the node, "pool1" where they are fused; "-": none */
    const cnn_op_desc *desc;
    const char *kernel; /* the implementation, "cnn_cpu_conv_i8_avx512vnni" */
    int64_t macs;       /* multiply-accumulates of a convolution or linear layer, else 0 */
    double seconds;     /* that it took */
    const void *dst;    /* its result as desc->arg[CNN_ARG_DST] says, until the callback returns; NULL unless values */
} cnn_trace;

typedef cnn_status (*cnn_trace_fn)(void *context, const cnn_trace *trace);

/* From now on every run of a program calls `trace` after each instruction, and ends with its status when that is not
 * CNN_OK; NULL: not any more. `values`: show results too. Programs run as they always do, fused; where the result of a
 * fused node is not stored, nobody sees it. */
CNN_API void cnn_session_trace(cnn_session *session, cnn_trace_fn trace, void *context, bool values);

/* ---- Training (sessions opened with `train`) ---- */

/* The images and labels that steps index. Kept by reference. */
CNN_API cnn_status cnn_session_set_data(cnn_session *session, const cnn_dataset *data);

/* What a teacher answers to each image of the data, [count, classes] scores; copied. For sessions whose step distills,
 * after cnn_session_set_data. NULL: makes room, for answers that come later. */
CNN_API cnn_status cnn_session_set_teacher(cnn_session *session, const float *logits);

/* Learning rate of each update; copied. Updates beyond `steps` use the last. */
CNN_API cnn_status cnn_session_set_schedule(cnn_session *session, const float *learning_rate, int32_t steps);

CNN_API cnn_status cnn_session_set_state(cnn_session *session, const cnn_train_state *state);
CNN_API cnn_status cnn_session_get_state(cnn_session *session, cnn_train_state *state);

/* One training step on images index[0..count), count <= batch: forward, loss, backward, reduction, update.
 * result: {mean loss, count of correct answers} of the batch before the update. */
CNN_API cnn_status cnn_session_step(cnn_session *session, const int32_t *index, int count, float result[2]);

/* The same without waiting. set_order says which images the following steps take, in their order, from number `first`
 * of index[0..count) on; copied. submit enqueues a step on the next `count` of them; report waits for the oldest step
 * that was submitted and not reported, of which there may be cnn_session_depth(): 1 on devices that compute at once,
 * else several, so that the host stays ahead of the device. All that reads or changes the session otherwise is for when
 * none is left. */
CNN_API cnn_status cnn_session_set_order(cnn_session *session, const int32_t *index, int32_t count, int32_t first);
/* Numbers the epoch that the following steps are of, from 1: dropout draws anew in each. */
CNN_API cnn_status cnn_session_set_epoch(cnn_session *session, int32_t epoch);
CNN_API cnn_status cnn_session_submit(cnn_session *session, int count);
CNN_API cnn_status cnn_session_report(cnn_session *session, cnn_step_report *report);
CNN_API int cnn_session_depth(const cnn_session *session);

/* Copies parameters and BN statistics from the device into the model, or from the model to the device. */
CNN_API cnn_status cnn_session_pull(cnn_session *session);
CNN_API cnn_status cnn_session_push(cnn_session *session);

/* Name of the layer that segment `segment` of the gradients belongs to ("conv2"); NULL when out of range. */
CNN_API const char *cnn_session_segment_layer(const cnn_session *session, int segment);

/* The program for one batch size as text; free() it. training: the training program, else inference. */
CNN_API cnn_status cnn_session_dump(cnn_session *session, bool training, int batch, char **text);

#ifdef __cplusplus
}
#endif
#endif
