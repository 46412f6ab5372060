/* The plan tier: every cuDNN graph of the shipped models, put before the real cuDNN for GPUs that it only knows by
 * description. */
#ifndef CNN_TESTS_CUDNN_PLANS_H
#define CNN_TESTS_CUDNN_PLANS_H

#include "kernels/cuda/cudnn_ops.h"

/* ---- GPUs: devices.c ---- */

enum { GPUS = 6, GPU_JSON_BYTES = 2048 };

typedef struct gpu_info {
    const char *name; /* "sm_90" */
    const char *card; /* whose figures they are */
    int version;      /* 900 */
    int multiprocessors, shared_kib, threads,
        blocks; /* of a multiprocessor; shared: the most that a block can ask for */
    int64_t memory_mib, l2_kib;
    int clock_mhz, memory_mhz;
} gpu_info;

extern const gpu_info gpus[GPUS];

/* The description that cuDNN reads. Returns text. */
char *gpu_describe(const gpu_info *of, char text[GPU_JSON_BYTES]);

/* ---- Graphs: collect.c ---- */

enum { GRAPHS = 256 };

typedef struct plan_graph {
    cnn_op_desc desc;
    char text[CNN_CUDNN_TEXT_BYTES];
    char used[256]; /* "convnet conv2 fp16 train, ..." */
    bool slow;      /* only of training at batch 1: many seconds for what nobody runs */
} plan_graph;

typedef struct plan_graphs {
    int count;
    plan_graph graph[GRAPHS];
} plan_graphs;

/* Lowers and fuses the programs of the shipped models for a described device, and collects the graphs of the ops for
 * which the backend would choose cuDNN. On failure the error is recorded. */
cnn_status collect_shipped(cnn_device *device, plan_graphs *graphs);
/* Graphs that other networks need: a residual, strides, odd and pruned widths, batch norms. */
void collect_others(plan_graphs *graphs);

/* ---- Verdicts: verdict.c ---- */

typedef struct verdict {
    bool skipped; /* set before verdicts_run: not asked */
    cnn_status status;
    int64_t engine;
    uint32_t numerical_notes, behavior_notes;
    size_t workspace_bytes;
    double seconds;
    char error[400]; /* what was recorded, when status is not CNN_OK */
} verdict;

/* What to ask, in another process, since cuDNN may crash on a graph that it does not know: fills `result`. */
typedef void verdict_fn(const void *subject, cnn_device *device, verdict *result);

/* Asks for `count` subjects of subject_bytes each on every GPU. results: [count][GPUS]. */
void verdicts_run(const void *subjects, int count, size_t subject_bytes, verdict_fn *run, verdict *results);

/* ---- The plan cache: cache.c ---- */

/* Of a cnn_op_desc whose plan cuDNN compiles at run time. */
verdict_fn judge_cache;

#endif
