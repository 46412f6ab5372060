/* Plans on disk: what takes long to find or to compile is kept for the next start.
 *
 * Kept are plans that cuDNN compiled at run time (1 to 15 s each) and those that --autotune measured, in the JSON form
 * in which cuDNN itself writes and reads an execution plan. One file a plan in $XDG_CACHE_HOME/cnnkit (else
 * ~/.cache/cnnkit), named by a hash of the key: GPU, driver, cuDNN version, settings that select engines, and the
 * graph.
 *
 *     cnnkit cudnn plan 1
 *     <key>
 *     <engine> <numerical notes> <behavior notes> <bytes of JSON> <hash of JSON>
 *     <JSON>
 *
 * A file that is damaged, cut off or of another key counts as missing. The bits of results do not depend on the cache:
 * without --autotune it holds what the heuristics choose anyway. */
#ifndef CNN_CUDA_CUDNN_CACHE_H
#define CNN_CUDA_CUDNN_CACHE_H

#include "kernels/cuda/cudnn_plan.h"

/* The folder of the user's cache, or "" when there is none. */
void cnn_cudnn_cache_folder(char *folder, size_t bytes);

/* Finds the plan's JSON (host->free it) and fills in its engine and notes; NULL when it is not there. */
char *cnn_cudnn_cache_load(cnn_cudnn_plan *plan, size_t *json_bytes);
/* Keeps it. Whatever fails is not reported: the next start just takes longer. */
void cnn_cudnn_cache_store(const cnn_cudnn_plan *plan);

#endif
