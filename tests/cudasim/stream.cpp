/* Streams, events, recordings. A stream is a queue of work that is done, in order, when the host waits for it: the
 * slowest of all GPUs. With cudasim_set_early() it is done at once: the fastest. */
#include "tests/cudasim/runtime.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <set>
#include <vector>

typedef std::function<void()> cudasim_work;
typedef std::vector<cudasim_work> cudasim_works;

struct CUstream_st {
    int device = 0;
    std::deque<cudasim_work> queue;
    bool capturing = false, spoilt = false;
    cudasim_works captured;
};

struct CUevent_st {
    bool timed = false;
    cudaStream_t stream = nullptr;      /* of the last record */
    uint64_t recorded = 0, reached = 0; /* how often */
    std::chrono::steady_clock::time_point when;
};

struct CUgraph_st {
    cudasim_works works;
};

struct CUgraphExec_st {
    std::shared_ptr<const cudasim_works> works;
};

namespace
{

/* So much work a stream holds back, at most. */
constexpr size_t LONGEST_QUEUE = 1024;

struct all_streams {
    std::set<cudaStream_t> streams;
    bool early = false;
    all_streams()
    {
        const char *timing = getenv("CNN_CUDASIM_TIMING");
        early = timing && strcmp(timing, "early") == 0;
    }
};

all_streams &all()
{
    static all_streams *const made = new all_streams;
    return *made;
}

thread_local cudaStream_t capturing_here = nullptr;

void do_first(cudaStream_t stream)
{
    cudasim_work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    cudasim_count_work();
    if (cudasim_broken() != cudaSuccess)
        return;
    simt_set_schedule(stream->device);
    work();
}

void do_all(cudaStream_t stream)
{
    if (stream->queue.empty())
        return;
    cudasim_working working;
    while (!stream->queue.empty())
        do_first(stream);
}

bool is_done(cudaEvent_t event)
{
    return event->reached == event->recorded;
}

void do_until(cudaEvent_t event)
{
    if (is_done(event))
        return;
    cudasim_working working;
    while (!is_done(event) && !event->stream->queue.empty())
        do_first(event->stream);
}

/* Spoils the capture of the stream, if it has one. */
bool spoil(cudaStream_t stream)
{
    if (stream && stream->capturing)
        stream->spoilt = true;
    return stream && stream->capturing;
}

} // namespace

/* ---- For the runtime ---- */

void cudasim_need_stream(cudaStream_t stream, const char *call)
{
    if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
        cudasim_report("%s: on the default stream", call);
    cudasim_need(CUDASIM_STREAM, stream, call);
}

bool cudasim_spoil_capture()
{
    return spoil(capturing_here);
}

bool cudasim_captures(cudaStream_t stream)
{
    return stream->capturing;
}

void cudasim_drain()
{
    for (cudaStream_t stream : all().streams)
        do_all(stream);
}

bool cudasim_early()
{
    return all().early;
}

cudaError_t cudasim_enqueue(cudaStream_t stream, std::function<void()> work)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "a launch");
    if (cudasim_broken() != cudaSuccess)
        return cudasim_fail(cudasim_broken());
    if (stream->capturing) {
        stream->captured.push_back(std::move(work));
        return cudaSuccess;
    }
    stream->queue.push_back(std::move(work));
    if (all().early || stream->queue.size() > LONGEST_QUEUE)
        do_all(stream);
    return cudaSuccess;
}

void cudasim_set_early(int early)
{
    CUDASIM_LOCKED;
    all().early = early != 0;
}

/* ---- Streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    CUDASIM_LOCKED;
    if (flags != cudaStreamNonBlocking)
        cudasim_report("cudaStreamCreateWithFlags: a stream that waits for the default stream");
    if (cudasim_broken() != cudaSuccess || cudasim_refuse())
        return cudasim_fail(cudasim_broken() != cudaSuccess ? cudasim_broken() : cudaErrorMemoryAllocation);
    *stream = new CUstream_st;
    (*stream)->device = cudasim_device();
    all().streams.insert(*stream);
    cudasim_add(CUDASIM_STREAM, *stream, (*stream)->device);
    return cudaSuccess;
}

static void report_leaks(int device)
{
    for (cudaStream_t stream : all().streams)
        if (stream->device == device)
            return;
    if (cudasim_leaks(device))
        cudasim_report("device %d was closed (its last stream destroyed), but not all of it was freed", device);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "cudaStreamDestroy");
    if (stream->capturing)
        cudasim_report("cudaStreamDestroy: the stream is capturing");
    do_all(stream);
    const int device = stream->device;
    cudasim_remove(CUDASIM_STREAM, stream, "cudaStreamDestroy");
    all().streams.erase(stream);
    delete stream;
    report_leaks(device);
    return cudasim_fail(cudasim_broken());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "cudaStreamSynchronize");
    if (spoil(stream))
        return cudasim_fail(cudaErrorStreamCaptureUnsupported);
    do_all(stream);
    return cudasim_fail(cudasim_broken());
}

/* Each question gets the device on by one piece of work. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "cudaStreamQuery");
    if (spoil(stream))
        return cudasim_fail(cudaErrorStreamCaptureUnsupported);
    if (stream->queue.empty())
        return cudasim_fail(cudasim_broken());
    cudasim_working working;
    do_first(stream);
    return cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "cudaStreamWaitEvent");
    cudasim_need(CUDASIM_EVENT, event, "cudaStreamWaitEvent");
    if (flags != 0 || stream->capturing)
        cudasim_report("cudaStreamWaitEvent: in a recording, or flags 0x%x: not modelled", flags);
    return cudasim_enqueue(stream, [=] { do_until(event); });
}

cudaError_t cudaDeviceSynchronize(void)
{
    CUDASIM_LOCKED;
    if (cudasim_spoil_capture())
        return cudasim_fail(cudaErrorStreamCaptureUnsupported);
    cudasim_drain();
    return cudasim_fail(cudasim_broken());
}

/* ---- Events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    CUDASIM_LOCKED;
    if (flags & ~static_cast<unsigned>(cudaEventDisableTiming | cudaEventBlockingSync))
        cudasim_report("cudaEventCreateWithFlags: flags 0x%x are not modelled", flags);
    if (cudasim_broken() != cudaSuccess || cudasim_refuse())
        return cudasim_fail(cudasim_broken() != cudaSuccess ? cudasim_broken() : cudaErrorMemoryAllocation);
    *event = new CUevent_st;
    (*event)->timed = !(flags & cudaEventDisableTiming);
    cudasim_add(CUDASIM_EVENT, *event, cudasim_device());
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_EVENT, event, "cudaEventDestroy");
    do_until(event);
    cudasim_remove(CUDASIM_EVENT, event, "cudaEventDestroy");
    delete event;
    return cudasim_fail(cudasim_broken());
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_EVENT, event, "cudaEventRecord");
    cudasim_need_stream(stream, "cudaEventRecord");
    if (stream->capturing)
        cudasim_report("cudaEventRecord: in a recording: not modelled");
    event->stream = stream;
    const uint64_t number = ++event->recorded;
    const cudaError_t error = cudasim_enqueue(stream, [=] {
        event->reached = number;
        event->when = std::chrono::steady_clock::now();
    });
    if (error != cudaSuccess)
        event->recorded--;
    return error;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_EVENT, event, "cudaEventSynchronize");
    if (cudasim_spoil_capture())
        return cudasim_fail(cudaErrorStreamCaptureUnsupported);
    do_until(event);
    return cudasim_fail(cudasim_broken());
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_EVENT, event, "cudaEventQuery");
    if (cudasim_spoil_capture())
        return cudasim_fail(cudaErrorStreamCaptureUnsupported);
    if (is_done(event))
        return cudasim_fail(cudasim_broken());
    cudasim_working working;
    do_first(event->stream);
    return cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    CUDASIM_LOCKED;
    for (cudaEvent_t event : {start, end}) {
        cudasim_need(CUDASIM_EVENT, event, "cudaEventElapsedTime");
        if (!event->timed || event->recorded == 0)
            return cudasim_fail(cudaErrorInvalidResourceHandle);
        if (!is_done(event))
            return cudasim_fail(cudasim_broken() != cudaSuccess ? cudasim_broken() : cudaErrorNotReady);
    }
    *ms = std::chrono::duration<float, std::milli>(end->when - start->when).count();
    return cudaSuccess;
}

/* ---- Recordings ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "cudaStreamBeginCapture");
    if (mode != cudaStreamCaptureModeThreadLocal)
        cudasim_report("cudaStreamBeginCapture: mode %d is not modelled", static_cast<int>(mode));
    if (stream->capturing || capturing_here)
        cudasim_report("cudaStreamBeginCapture: a capture is going on");
    if (cudasim_broken() != cudaSuccess)
        return cudasim_fail(cudasim_broken());
    stream->capturing = true;
    stream->spoilt = false;
    capturing_here = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "cudaStreamIsCapturing");
    *status = !stream->capturing ? cudaStreamCaptureStatusNone
              : stream->spoilt   ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "cudaStreamEndCapture");
    if (!stream->capturing || capturing_here != stream)
        cudasim_report("cudaStreamEndCapture: this thread's capture of the stream was not begun");
    cudasim_works works = std::move(stream->captured);
    const bool refused = cudasim_refuse();
    stream->captured.clear();
    stream->capturing = false;
    capturing_here = nullptr;
    *graph = nullptr;
    if (stream->spoilt)
        return cudasim_fail(cudaErrorStreamCaptureInvalidated);
    if (refused || cudasim_broken() != cudaSuccess)
        return cudasim_fail(refused ? cudaErrorMemoryAllocation : cudasim_broken());
    *graph = new CUgraph_st{std::move(works)};
    cudasim_add(CUDASIM_GRAPH, *graph, stream->device);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    CUDASIM_LOCKED;
    cudasim_remove(CUDASIM_GRAPH, graph, "cudaGraphDestroy");
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_GRAPH, graph, "cudaGraphInstantiate");
    if (flags != 0)
        cudasim_report("cudaGraphInstantiate: flags 0x%llx are not modelled", flags);
    if (cudasim_spoil_capture())
        return cudasim_fail(cudaErrorStreamCaptureUnsupported);
    if (cudasim_broken() != cudaSuccess || cudasim_refuse())
        return cudasim_fail(cudasim_broken() != cudaSuccess ? cudasim_broken() : cudaErrorMemoryAllocation);
    *exec = new CUgraphExec_st{std::make_shared<cudasim_works>(graph->works)};
    if (getenv("CNN_CUDASIM_SHOW"))
        fprintf(stderr, "cudasim: a graph of %zu kernels and library calls\n", graph->works.size());
    cudasim_add(CUDASIM_GRAPH_EXEC, *exec, cudasim_device());
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    CUDASIM_LOCKED;
    cudasim_remove(CUDASIM_GRAPH_EXEC, exec, "cudaGraphExecDestroy");
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_GRAPH_EXEC, exec, "cudaGraphLaunch");
    cudasim_need_stream(stream, "cudaGraphLaunch");
    if (stream->capturing)
        cudasim_report("cudaGraphLaunch: in a recording: not modelled");
    return cudasim_enqueue(stream, [works = exec->works] {
        for (const cudasim_work &work : *works)
            work();
    });
}
