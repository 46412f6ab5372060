/* The CPU's CUDA runtime: it does what CUDA documents, and wrong uses of it are found. Each wrong use runs in a process
 * of its own, which has to end with a given sentence. */
#include "kernels/cuda/cuda.cuh"
#include "tests/cudasim/faults.h"
#include "tests/cudasim/runtime.h"

#include <cstdlib>
#include <vector>

namespace
{

constexpr int COUNT = 1000;
constexpr size_t BYTES = COUNT * sizeof(float);

__global__ void __launch_bounds__(256) k_scale(const float *src, float factor, float *dst, int count)
{
    for (int64_t i = cnn_first_item(); i < count; i += cnn_item_step())
        dst[i] = src[i] * factor;
}

/* A stream, device memory that holds 0, 1, 2 ..., and host memory of two kinds. */
struct scene {
    cudaStream_t stream = nullptr;
    float *device = nullptr, *pinned = nullptr;
    std::vector<float> host;

    scene() : host(COUNT)
    {
        for (int i = 0; i < COUNT; i++)
            host[static_cast<size_t>(i)] = static_cast<float>(i);
        OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        OK(cudaMalloc(reinterpret_cast<void **>(&device), BYTES));
        OK(cudaHostAlloc(reinterpret_cast<void **>(&pinned), BYTES, cudaHostAllocMapped));
        OK(cudaMemcpyAsync(device, host.data(), BYTES, cudaMemcpyHostToDevice, stream));
    }
    void scale(float factor)
    {
        OK(CNN_LAUNCH(k_scale, dim3(cnn_blocks(COUNT, 256)), dim3(256), 0, stream, device, factor, device, COUNT));
    }
    cudaError_t fetch()
    {
        return cudaMemcpyAsync(host.data(), device, BYTES, cudaMemcpyDeviceToHost, stream);
    }
    float fetched(int i)
    {
        OK(fetch());
        OK(cudaStreamSynchronize(stream));
        return host[static_cast<size_t>(i)];
    }
    void close()
    {
        OK(cudaFree(device));
        OK(cudaFreeHost(pinned));
        OK(cudaStreamDestroy(stream));
    }
};

/* ---- What CUDA documents ---- */

void test_copies()
{
    scene s;
    s.scale(2);
    CHECK(s.fetched(7) == 14);
    for (int i = 0; i < COUNT; i++)
        s.pinned[i] = 1;
    OK(cudaMemcpyAsync(s.device, s.pinned, BYTES, cudaMemcpyHostToDevice, s.stream));
    CHECK(s.fetched(7) == 1);
    OK(cudaMemsetAsync(s.device, 0, BYTES, s.stream));
    CHECK(s.fetched(7) == 0);
    float *other = nullptr;
    OK(cudaMalloc(reinterpret_cast<void **>(&other), BYTES));
    OK(cudaMemcpyAsync(other, s.device, BYTES, cudaMemcpyDeviceToDevice, s.stream));
    OK(cudaFree(other));
    s.close();
}

/* The device is late: pageable memory was taken when the copy was called, pinned memory is read when its turn comes,
 * the host finds garbage until it waits. */
void test_late()
{
    scene s;
    s.host[7] = -1;
    CHECK(s.fetched(7) == 7);
    s.pinned[7] = 1;
    OK(cudaMemcpyAsync(s.device, s.pinned, BYTES, cudaMemcpyHostToDevice, s.stream));
    s.pinned[7] = 2;
    CHECK(s.fetched(7) == 2);
    OK(s.fetch());
    CHECK(s.host[7] != 2);
    OK(cudaStreamSynchronize(s.stream));
    CHECK(s.host[7] == 2);
    cudasim_set_early(1);
    OK(s.fetch());
    CHECK(s.host[7] == 2);
    cudasim_set_early(0);
    s.close();
}

/* Whatever a program writes byte by byte is not taken for memory that was never written: of 2^24 words some would be.
 */
void test_written()
{
    constexpr size_t bytes = size_t{1} << 27;
    cudaStream_t stream = nullptr;
    void *device = nullptr;
    std::vector<char> host(bytes);
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    OK(cudaMalloc(&device, bytes));
    OK(cudaMemsetAsync(device, 0xFF, bytes, stream));
    OK(cudaMemcpyAsync(host.data(), device, bytes, cudaMemcpyDeviceToHost, stream));
    OK(cudaStreamSynchronize(stream));
    OK(cudaFree(device));
    OK(cudaStreamDestroy(stream));
}

void test_events()
{
    scene s;
    cudaEvent_t first, second;
    float ms = -1;
    OK(cudaEventCreate(&first));
    OK(cudaEventCreateWithFlags(&second, cudaEventDefault));
    OK(s.fetch());
    OK(cudaEventRecord(first, s.stream));
    s.scale(3);
    OK(cudaMemcpyAsync(s.pinned, s.device, BYTES, cudaMemcpyDeviceToHost, s.stream));
    OK(cudaEventRecord(second, s.stream));
    CHECK(cudaEventElapsedTime(&ms, first, second) == cudaErrorNotReady);
    OK(cudaEventSynchronize(first));
    CHECK(s.host[7] == 7);
    CHECK(s.pinned[7] != 21);
    CHECK(cudaEventQuery(first) == cudaSuccess);
    int questions = 0;
    while (cudaEventQuery(second) == cudaErrorNotReady)
        questions++;
    CHECK(questions > 0 && s.pinned[7] == 21);
    OK(cudaEventElapsedTime(&ms, first, second));
    CHECK(ms >= 0);
    OK(cudaEventDestroy(first));
    OK(cudaEventDestroy(second));
    (void)cudaGetLastError(); /* of the question that was too early */
    s.close();
}

void test_recording()
{
    scene s;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    OK(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
    s.scale(2);
    s.scale(5);
    OK(cudaStreamEndCapture(s.stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    CHECK(s.fetched(7) == 7);
    OK(cudaGraphLaunch(exec, s.stream));
    OK(cudaGraphLaunch(exec, s.stream));
    CHECK(s.fetched(7) == 700);
    OK(cudaGraphExecDestroy(exec));
    s.close();
}

/* Waiting and allocating spoil a capture. */
void test_spoilt_recording()
{
    scene s;
    cudaGraph_t graph = nullptr;
    void *more = nullptr;
    OK(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
    CHECK(cudaStreamSynchronize(s.stream) == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaStreamEndCapture(s.stream, &graph) == cudaErrorStreamCaptureInvalidated && !graph);
    OK(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
    CHECK(cudaMalloc(&more, 4) == cudaErrorStreamCaptureUnsupported && !more);
    CHECK(cudaStreamEndCapture(s.stream, &graph) == cudaErrorStreamCaptureInvalidated && !graph);
    CHECK(cudaGetLastError() == cudaErrorStreamCaptureInvalidated && cudaGetLastError() == cudaSuccess);
    s.close();
}

void test_memory_runs_out()
{
    size_t left = 0, all = 0;
    void *first = nullptr, *second = nullptr;
    cudasim_set_memory(10000);
    OK(cudaMalloc(&first, 6000));
    CHECK(cudaMalloc(&second, 6000) == cudaErrorMemoryAllocation && !second);
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess);
    OK(cudaMemGetInfo(&left, &all));
    CHECK(all == 10000 && left == 10000 - 6144);
    OK(cudaFree(first));
    OK(cudaMalloc(&second, 6000));
    OK(cudaFree(second));
    cudasim_set_memory(0);
}

/* scene makes three requests: each of them fails in turn. */
void test_requests_fail()
{
    for (int number = 1; number <= 4; number++) {
        cudaStream_t stream = nullptr;
        void *device = nullptr, *pinned = nullptr;
        cudasim_fail_request(number);
        CHECK((cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess) == (number != 1));
        CHECK((cudaMalloc(&device, 1) == cudaSuccess) == (number != 2));
        CHECK((cudaHostAlloc(&pinned, 1, cudaHostAllocMapped) == cudaSuccess) == (number != 3));
        CHECK(cudasim_requests() == 3);
        OK(cudaFree(device));
        OK(cudaFreeHost(pinned));
        if (stream)
            OK(cudaStreamDestroy(stream));
    }
    cudasim_fail_request(0);
    (void)cudaGetLastError();
}

void test_all_is_counted()
{
    for (int kind = 0; kind < CUDASIM_KINDS; kind++)
        CHECK(cudasim_live(static_cast<cudasim_kind>(kind)) == 0);
    scene s;
    CHECK(cudasim_live(CUDASIM_DEVICE_MEMORY) == 1 && cudasim_live(CUDASIM_STREAM) == 1);
    s.close();
    CHECK(cudasim_live(CUDASIM_DEVICE_MEMORY) == 0 && cudasim_live(CUDASIM_STREAM) == 0);
}

/* ---- Wrong uses ---- */

struct wrong_use {
    const char *name, *sentence; /* part of what it has to say */
    void (*use)(scene &s);
};

const wrong_use wrong_uses[] = {
    {"memory leaks", "leaked: 1 times a block of device memory", [](scene &s) { OK(cudaStreamDestroy(s.stream)); }},
    {"an event leaks", "leaked: 1 times a event",
     [](scene &s) {
         cudaEvent_t event;
         OK(cudaEventCreate(&event));
         s.close();
     }},
    {"to the device, but it is the host", "but the source is pageable memory and the destination pageable memory",
     [](scene &s) {
         float other = 0;
         (void)cudaMemcpyAsync(s.host.data(), &other, sizeof other, cudaMemcpyHostToDevice, s.stream);
     }},
    {"from the device, but it is the host", "but the source is pinned memory",
     [](scene &s) { (void)cudaMemcpyAsync(s.host.data(), s.pinned, BYTES, cudaMemcpyDeviceToHost, s.stream); }},
    {"on the device, but it is the host", "but the source is device memory and the destination pinned memory",
     [](scene &s) { (void)cudaMemcpyAsync(s.pinned, s.device, BYTES, cudaMemcpyDeviceToDevice, s.stream); }},
    {"a copy that is too long", "4004 bytes at byte 0 of a block of 4000 bytes of",
     [](scene &s) { (void)cudaMemcpyAsync(s.pinned, s.device, BYTES + 4, cudaMemcpyDeviceToHost, s.stream); }},
    {"a copy of freed memory", "device memory that was freed",
     [](scene &s) {
         OK(cudaFree(s.device));
         (void)s.fetch();
     }},
    {"freed twice", "was freed before",
     [](scene &s) {
         OK(cudaFree(s.device));
         (void)cudaFree(s.device);
     }},
    {"freed as pinned", "is not the start of a block of pinned memory", [](scene &s) { (void)cudaFreeHost(s.device); }},
    {"freed in the middle", "is not the start of a block", [](scene &s) { (void)cudaFree(s.device + 1); }},
    {"a kernel reads freed memory", "in a block of 4000 bytes that was freed",
     [](scene &s) {
         OK(cudaStreamSynchronize(s.stream));
         float *device = s.device;
         OK(cudaFree(device));
         OK(cudasim_enqueue(s.stream, [=] { *device = 1; }));
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"a replay of freed memory", "in a block of 4000 bytes that was freed",
     [](scene &s) {
         cudaGraph_t graph;
         cudaGraphExec_t exec;
         OK(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
         s.scale(2);
         OK(cudaStreamEndCapture(s.stream, &graph));
         OK(cudaGraphInstantiate(&exec, graph, 0));
         OK(cudaFree(s.device));
         OK(cudaGraphLaunch(exec, s.stream));
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"a kernel writes behind a block", "wrote 0 bytes behind the end of a block of 4000 bytes of device memory",
     [](scene &s) {
         float *device = s.device;
         OK(cudasim_enqueue(s.stream, [=] { device[COUNT] = 1; }));
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"a kernel writes far behind a block", "bytes behind the end of a block of 4000 bytes",
     [](scene &s) {
         float *device = s.device;
         OK(cudasim_enqueue(s.stream, [=] { device[COUNT + 100] = 1; }));
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"a kernel writes before a block", "wrote 4 bytes before a block of 1000 bytes of device memory",
     [](scene &s) {
         float *other;
         OK(cudaMalloc(reinterpret_cast<void **>(&other), 1000));
         OK(cudasim_enqueue(s.stream, [=] { other[-1] = 1; }));
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"a kernel writes far before a block", "4 bytes before a block of 4000 bytes",
     [](scene &s) {
         float *device = s.device;
         OK(cudasim_enqueue(s.stream, [=] { device[-1] = 1; }));
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"the host reads device memory", "the host touched device memory",
     [](scene &s) {
         OK(cudaStreamSynchronize(s.stream));
         if (s.device[7] > 0)
             puts("read");
     }},
    {"nothing was written", "reads byte 0 of 4000",
     [](scene &s) {
         void *other;
         OK(cudaMalloc(&other, BYTES));
         OK(cudaMemcpyAsync(s.pinned, other, BYTES, cudaMemcpyDeviceToHost, s.stream));
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"not all was written", "reads byte 3992 of 4000",
     [](scene &s) {
         char *other;
         OK(cudaMalloc(reinterpret_cast<void **>(&other), BYTES));
         OK(cudaMemsetAsync(other, 0, BYTES - 8, s.stream));
         OK(cudaMemcpyAsync(s.pinned, other, BYTES, cudaMemcpyDeviceToHost, s.stream));
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"the default stream", "on the default stream", [](scene &s) { (void)cudaMemsetAsync(s.device, 0, 4, nullptr); }},
    {"a launch on the default stream", "on the default stream",
     [](scene &s) {
         s.stream = nullptr;
         s.scale(1);
     }},
    {"a stream that was destroyed", "is no stream",
     [](scene &s) {
         cudaStream_t stream = s.stream;
         s.close();
         (void)cudaStreamSynchronize(stream);
     }},
    {"a recorded copy of pageable memory", "a copy of pageable memory in a recording",
     [](scene &s) {
         OK(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal));
         (void)cudaMemcpyAsync(s.device, s.host.data(), BYTES, cudaMemcpyHostToDevice, s.stream);
     }},
};

void test_wrong_uses()
{
    for (const wrong_use &wrong : wrong_uses)
        must_be_found(wrong.name, wrong.sentence, [&wrong] {
            scene s;
            wrong.use(s);
        });
}

/* A process that ends with leaks has an exit code of its own. */
void test_leak_at_exit()
{
    int status = 0;
    const std::string said = said_by(
        [] {
            scene s;
            exit(0);
        },
        &status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CUDASIM_EXIT_LEAK);
    CHECK(said.find("leaked: 1 times a stream") != std::string::npos);
}

} // namespace

int main()
{
    test_copies();
    test_late();
    test_written();
    test_events();
    test_recording();
    test_spoilt_recording();
    test_memory_runs_out();
    test_requests_fail();
    test_all_is_counted();
    test_wrong_uses();
    test_leak_at_exit();
    return report();
}
