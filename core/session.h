/* The session inside. */
#ifndef CNN_CORE_SESSION_H
#define CNN_CORE_SESSION_H

#include "cnn/session.h"
#include "core/program.h"

struct cnn_session {
    cnn_model *model;
    const cnn_backend *backend;
    cnn_device *device;
    int batch;
    bool train;
    cnn_dtype storage; /* of training */
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

    const cnn_dataset *data; /* of training */
    int32_t rate_count;
};

/* Device memory of a place, replacing what was there. 0 bytes: none. */
cnn_status cnn_session_alloc(cnn_session *session, cnn_place place, size_t bytes);
cnn_status cnn_session_upload(cnn_session *session, void *dst, const void *src, size_t bytes);
cnn_status cnn_session_download(cnn_session *session, void *dst, const void *src, size_t bytes);

/* The program for a goal and batch size, ready to run. It belongs to the session. */
cnn_status cnn_session_program(cnn_session *session, cnn_goal goal, int batch, cnn_program **program);
/* Forgets programs of a goal, because what they were made for has changed. */
void cnn_session_drop_programs(cnn_session *session, cnn_goal goal);
cnn_status cnn_session_run(cnn_session *session, cnn_program *program);
/* Where a buffer lies on the device. */
void *cnn_session_pointer(const cnn_session *session, const cnn_program *program, int buffer);

/* Refuses data of another image shape or class count than the model's. */
cnn_status cnn_session_check_data(const cnn_session *session, const cnn_dataset *data);

/* Allocates and fills what a training session needs; called once by open. */
cnn_status cnn_session_open_training(cnn_session *session);

#endif
