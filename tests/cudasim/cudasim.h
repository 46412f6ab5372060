/* What the CPU's CUDA runtime (cudart.cpp) and the layer that runs kernels on it (simt.h) need of each other. C++17. */
#ifndef CNN_CUDASIM_CUDASIM_H
#define CNN_CUDASIM_CUDASIM_H

#include <cuda_runtime_api.h>

#include <functional>

/* The runtime: does the work now, or adds it to the graph that the stream is capturing. The closure owns copies of all
 * that it needs. Work of a stream runs under the schedule of the stream's device: simt_set_schedule() before it. */
cudaError_t cudasim_enqueue(cudaStream_t stream, std::function<void()> work);

/* The runtime: keeps an error for cudaGetLastError() and returns it. */
cudaError_t cudasim_fail(cudaError_t error);

/* The layer: the order in which threads of a block run from now on, one device each (cudaSetDevice):
 *   0 rounds         every thread in turn, each until it waits
 *   1 reverse        the same from the last thread; blocks from the last too
 *   2 random         a new permutation of threads each round, of blocks each launch
 *   3 warp greedy    a warp runs ahead until all of its lanes wait at a barrier of the block
 *   4 warp greedy, reversed
 * A kernel is right when its results do not depend on it. */
enum { SIMT_ROUNDS = 0, SIMT_REVERSE, SIMT_RANDOM, SIMT_GREEDY, SIMT_GREEDY_REVERSED, SIMT_SCHEDULES };
void simt_set_schedule(int schedule);

#endif
