/* The session inside. */
#ifndef CNN_CORE_SESSION_H
#define CNN_CORE_SESSION_H

#include "cnn/session.h"
#include "core/program.h"
#include "kernels/augment/params.h"

enum { CNN_SESSION_LEVEL_BYTES = 64 };

struct cnn_session {
    cnn_model *model;
    const cnn_backend *backend;
    cnn_device *device;
    int batch;
    bool train;
    cnn_dtype storage; /* of training ... */
    cnn_step_options step;
    char description[256];

    cnn_program **programs; /* one a goal and batch size, made when first needed */
    int program_count;
    void *arena, *workspace; /* at the maximum of all programs */
    size_t arena_bytes, workspace_bytes;

    void *memory[CNN_PLACE_COUNT]; /* device memory that the session owns, by place; NULL where it has none */
    void **param;                  /* [nodes][CNN_PARAM_COUNT] device pointers of an inference session's parameters */
    void *staging;                 /* images of one batch on devices with memory of their own */
    const void *images, *labels;   /* device pointers bound for the next run */
    void *logits;

    cnn_trace_fn trace; /* NULL: none */
    void *trace_context;
    bool trace_values;
    void *traced; /* result of one instruction, from devices with memory of their own */
    size_t traced_bytes;

    const cnn_dataset *data; /* of training */
    int32_t rate_count;
    int32_t index_count; /* images that memory[CNN_PLACE_INDEX] has room for ... */
    int32_t order_count; /* ... and of the order that it holds */
    int32_t next;        /* place in the order where the next step begins */
    int32_t steps;       /* of the state: number of the next report */
    int pending;         /* steps that are enqueued and not reported */

    uint8_t *posts; /* CNN_MARKS slots of host memory for copies that the host does not wait for */
    size_t post_bytes;
};

/* Whether a place is host memory of a device with streams: reports lie where the host can read them while the device
 * goes on. */
bool cnn_session_in_host_memory(const cnn_session *session, cnn_place place);
/* Device memory; batch: of what grows with it, else 0. NULL: the error says what was asked for and what would fit. */
void *cnn_session_device_alloc(cnn_session *session, size_t bytes, int batch);
/* Device memory of a place, replacing what was there. 0 bytes: none. */
cnn_status cnn_session_alloc(cnn_session *session, cnn_place place, size_t bytes);
cnn_status cnn_session_upload(cnn_session *session, void *dst, const void *src, size_t bytes);
cnn_status cnn_session_download(cnn_session *session, void *dst, const void *src, size_t bytes);

/* The program for a goal and batch size, ready to run. It belongs to the session. */
cnn_status cnn_session_program(cnn_session *session, cnn_goal goal, int batch, cnn_program **program);
/* Forgets programs of a goal, because what they were made for has changed. */
void cnn_session_drop_programs(cnn_session *session, cnn_goal goal);
/* Enqueues it: devices with streams compute while the host goes on. Copies to the host wait. */
cnn_status cnn_session_run(cnn_session *session, cnn_program *program);
/* The same up to and including instruction number `last`. */
cnn_status cnn_session_run_to(cnn_session *session, cnn_program *program, int last);
/* Where a buffer lies on the device. */
void *cnn_session_pointer(const cnn_session *session, const cnn_program *program, int buffer);

/* Shows instruction `number`, which took `seconds`, to the session's trace. */
cnn_status cnn_session_show(cnn_session *session, const cnn_program *program, int number, double seconds);

/* Refuses data of another image shape or class count than the model's. */
cnn_status cnn_session_check_data(const cnn_session *session, const cnn_dataset *data);

/* Bytes of an input image, and how many scores the model gives. */
size_t cnn_session_image_bytes(const cnn_session *session);
int32_t cnn_session_classes(const cnn_session *session);

/* Images of the batch that begins at image `begin` of `count`. */
int cnn_session_batch_at(const cnn_session *session, int64_t begin, int64_t count);
/* Copies images index[begin..begin+count) (index NULL: those numbers) of a data set to `images`. */
void cnn_session_gather(const cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t begin,
                        int count, uint8_t *images);
/* Lets the next run read `count` images and write its scores to `logits`; on devices with memory of their own, to
 * memory[CNN_PLACE_LOGITS]. */
cnn_status cnn_session_bind(cnn_session *session, const uint8_t *images, int count, float *logits);

/* As cnn_session_observe, but shows one node alone, a convolution or linear layer, and of a quantized model its sums
 * before they are rounded and clamped to int8: float(acc + bias) * (s_in * s_w[k]). Runs no further than that. */
cnn_status cnn_session_observe_sums(cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t count,
                                    int node, cnn_observe_fn observe, void *context);

/* Brings the model's masks to a training session and forgets what the optimizer remembers of pruned weights; part of
 * cnn_session_push. */
cnn_status cnn_session_push_masks(cnn_session *session);

/* Forward, loss and backward of a training step without what follows them: parameters, statistics and state stay.
 * Needs what cnn_session_step needs; the state's loss_scale multiplies the gradients. */
cnn_status cnn_session_backward(cnn_session *session, const int32_t *index, int count, float result[2]);
/* The gradient of a parameter that trains as the last step or backward left it, in the parameter's shape. */
cnn_status cnn_session_gradient(cnn_session *session, int node, cnn_param_role role, float *gradient);

/* Scores of `count` images, up to the session's batch, and the gradient of their mean loss with regard to pixels, as
 * the model infers (running statistics of batch norms), in f32. pixels, gradient: [count,H,W,C], pixels in [0,1];
 * logits: [count,classes]. In a training session of the parameters as they are now. */
cnn_status cnn_session_pixel_gradient(cnn_session *session, const float *pixels, const uint8_t *labels, int count,
                                      float *logits, float *gradient);
/* The same of a quantized model, whose scores they are: the straight-through gradient. twin: a session of its float
 * twin (cnn_model_dequantize) with the same batch. */
cnn_status cnn_session_straight_through(cnn_session *quantized, cnn_session *twin, const uint8_t *images,
                                        const uint8_t *labels, int count, float *logits, float *gradient);

/* Brings images index[0..count) of the training data, which the caller has changed, to a device with memory of its own.
 */
cnn_status cnn_session_refresh(cnn_session *session, const int32_t *index, int count);

/* What a teacher answers to images index[0..count) from now on, [count, classes] scores; copied. After
 * cnn_session_set_teacher. */
cnn_status cnn_session_tell(cnn_session *session, const int32_t *index, int count, const float *logits);

/* How the first `count` images of the next step are changed; for sessions whose step augments. */
cnn_status cnn_session_augment(cnn_session *session, const cnn_augment_params *params, int count);

/* Slot `number` of the posts, for `bytes` at least. Whoever uses one waits for the mark behind its last use. */
cnn_status cnn_session_post(cnn_session *session, int number, size_t bytes, uint8_t **slot);
/* Waits for steps that are enqueued and forgets their reports. */
cnn_status cnn_session_drain(cnn_session *session);

/* Allocates and fills what a training session needs; called once by open. */
cnn_status cnn_session_open_training(cnn_session *session);

/* Where the values of PARAM or RUNNING of a node lie that evaluation uses and the model receives: frozen ones have no
 * averages. */
static inline cnn_place cnn_session_handed_out(const cnn_session *session, cnn_place place, int node)
{
    if (!session->step.ema || session->model->nodes[node].frozen)
        return place;
    return place == CNN_PLACE_PARAM ? CNN_PLACE_EMA : place == CNN_PLACE_RUNNING ? CNN_PLACE_EMA_RUNNING : place;
}

/* A memory whose content lives on from one training step to the next. */
typedef struct cnn_session_memory {
    const char *name; /* "momentum" */
    void *data;       /* on the device */
    size_t bytes;
} cnn_session_memory;

/* Lists them and returns how many there are. Copied back into a new session of the same model and options, together
 * with the training state, they make it go on as if it had never been away, bit for bit. */
enum { CNN_SESSION_MAX_KEPT = CNN_PLACE_COUNT };
int cnn_session_kept(const cnn_session *session, cnn_session_memory kept[CNN_SESSION_MAX_KEPT]);

/* "cpu avx512vnni": what of the machine the bits of a session depend on. */
void cnn_session_level(const cnn_session *session, char text[CNN_SESSION_LEVEL_BYTES]);

#endif
