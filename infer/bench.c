/* Latency and throughput of a batch of random images: warm-up, then repetitions, then percentiles; and where the time
 * goes. Several devices one after another. */
#include "infer/infer.h"
#include "infer/profile.h"

#include "cli/json.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "cli/units.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/memory.h"
#include "core/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* A run counts after WARM_RUNS and warm_s. Measuring ends after MOST_RUNS, or after enough_s with ENOUGH_RUNS (so that
 * p99 is not simply the slowest), or after patience_s with FEW_RUNS. */
enum { WARM_RUNS = 3, FEW_RUNS = 5, ENOUGH_RUNS = 200, MOST_RUNS = 20000 };
static const double warm_s = 0.3, enough_s = 1, patience_s = 10;

typedef struct bench_result {
    double p50, p90, p99; /* ms a batch */
    double images_per_s;
    int runs;
} bench_result;

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Smallest value that `share` of the sorted values do not exceed. */
static double percentile(const double *sorted, int count, double share)
{
    int rank = (int)(share * count + 0.999999);
    return sorted[rank < 1 ? 0 : rank > count ? count - 1 : rank - 1];
}

static int64_t peak_rss_bytes(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (int64_t)usage.ru_maxrss * 1024;
}

/* Scratch of a measurement. */
typedef struct bench_memory {
    uint8_t *images; /* [batch,H,W,C] random bytes */
    float *logits;   /* [batch,classes] */
    double *times;   /* [MOST_RUNS] */
} bench_memory;

/* One batch; its time in seconds. */
static cnn_status time_batch(cnn_session *session, int batch, const bench_memory *memory, double *seconds)
{
    double start = cnn_clock();
    cnn_status status = cnn_session_infer(session, memory->images, batch, memory->logits);
    *seconds = cnn_clock() - start;
    return status;
}

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* How much of the measurement is done; 1 and more: enough. */
static double share_done(int runs, double elapsed)
{
    double most = runs / (double)MOST_RUNS, enough = least(runs / (double)ENOUGH_RUNS, elapsed / enough_s);
    double few = least(runs / (double)FEW_RUNS, elapsed / patience_s);
    return most > enough && most > few ? most : enough > few ? enough : few;
}

static void summarize(double *times, double sum, int batch, bench_result *result)
{
    qsort(times, (size_t)result->runs, sizeof *times, compare_doubles);
    result->p50 = percentile(times, result->runs, 0.5);
    result->p90 = percentile(times, result->runs, 0.9);
    result->p99 = percentile(times, result->runs, 0.99);
    result->images_per_s = 1e3 * result->runs * (double)batch / sum;
}

static cnn_status measure(infer_run *run, int device, cnn_session *session, const bench_memory *memory,
                          bench_result *result)
{
    cnn_status status = CNN_OK;
    cnn_progress progress;
    char label[64];
    double seconds, sum = 0, start = cnn_clock();
    *result = (bench_result){.runs = 0};
    snprintf(label, sizeof label, "bench %s", run->device[device]);
    for (int i = 0; i < WARM_RUNS || cnn_clock() - start < warm_s; i++) {
        status = time_batch(session, run->batch, memory, &seconds);
        if (status != CNN_OK)
            return status;
    }
    cnn_progress_begin(&progress, run->cli, label, 1, NULL);
    start = cnn_clock();
    while (share_done(result->runs, cnn_clock() - start) < 1) {
        CNN_TRY(time_batch(session, run->batch, memory, &seconds));
        memory->times[result->runs++] = 1e3 * seconds;
        sum += 1e3 * seconds;
        cnn_progress_update(&progress, share_done(result->runs, cnn_clock() - start), NULL);
    }
    summarize(memory->times, sum, run->batch, result);
out:
    cnn_progress_end(&progress);
    return status;
}

/* ---- Several devices side by side ---- */

/* One device with what was measured on it. */
typedef struct bench_device {
    cnn_session *session; /* the first is the run's */
    bench_result result;
    infer_profile profile;
} bench_device;

static void write_device(const bench_device *device, cnn_json *json)
{
    cnn_json_number(json, "ms_p50", device->result.p50);
    cnn_json_number(json, "ms_p90", device->result.p90);
    cnn_json_number(json, "ms_p99", device->result.p99);
    cnn_json_number(json, "images_per_s", device->result.images_per_s);
    cnn_json_integer(json, "runs", device->result.runs);
    cnn_json_string(json, "device", cnn_session_device(device->session));
    infer_profile_write(&device->profile, json);
}

/* The keys of the first device; several ones follow in an array. */
static void write_json(const infer_run *run, const bench_device *devices)
{
    cnn_json json;
    cnn_json_begin(&json, stdout);
    cnn_json_integer(&json, "batch", run->batch);
    cnn_json_integer(&json, "threads", cnn_get_threads());
    cnn_json_string(&json, "model", run->path);
    cnn_json_integer(&json, "peak_rss_bytes", peak_rss_bytes());
    write_device(&devices[0], &json);
    if (run->device_count > 1) {
        cnn_json_array(&json, "devices");
        for (int i = 0; i < run->device_count; i++) {
            cnn_json_object(&json, NULL);
            write_device(&devices[i], &json);
            cnn_json_close(&json);
        }
        cnn_json_close(&json);
    }
    cnn_json_end(&json);
}

static cnn_status print_devices(const infer_run *run, const bench_device *devices)
{
    cnn_table table;
    char rate[CNN_UNIT_BYTES];
    cnn_table_begin(&table, "<device|>p50 ms|>p90 ms|>p99 ms|>images/s|>runs|>speed");
    for (int i = 0; i < run->device_count; i++) {
        const bench_result *result = &devices[i].result;
        cnn_table_cell(&table, "%s", run->device[i]);
        cnn_table_cell(&table, "%.3f", result->p50);
        cnn_table_cell(&table, "%.3f", result->p90);
        cnn_table_cell(&table, "%.3f", result->p99);
        cnn_table_cell(&table, "%s", cnn_format_count(rate, (int64_t)(result->images_per_s + 0.5)));
        cnn_table_cell(&table, "%d", result->runs);
        cnn_table_cell(&table, "%.2f x", devices[0].result.p50 / result->p50);
    }
    return cnn_table_end(&table, stdout);
}

static cnn_status print_results(const infer_run *run, const bench_device *devices)
{
    cnn_status status = CNN_OK;
    char memory[CNN_UNIT_BYTES], plural[] = "s";
    printf("%s, batch of %d, %d thread%s, peak memory %s\n", run->path, run->batch, cnn_get_threads(),
           cnn_get_threads() == 1 ? "" : plural, cnn_format_bytes(memory, peak_rss_bytes()));
    CNN_TRY(print_devices(run, devices));
    for (int i = 0; i < run->device_count; i++) {
        printf("\n%s; one batch, median of %d runs with a clock at every instruction:\n",
               cnn_session_device(devices[i].session), devices[i].profile.runs);
        CNN_TRY(infer_profile_print(&devices[i].profile));
    }
out:
    return status;
}

static cnn_status measure_device(infer_run *run, int number, const bench_memory *memory, bench_device *device)
{
    cnn_status status = CNN_OK;
    if (number > 0) {
        const cnn_session_options options = {
            .device = run->device[number], .batch = run->batch, .autotune = run->cli->common.autotune};
        CNN_TRY(cnn_session_open(run->model, &options, &device->session));
    } else {
        device->session = run->session;
    }
    CNN_TRY(measure(run, number, device->session, memory, &device->result));
    CNN_TRY(infer_profile_measure(device->session, memory->images, run->batch, memory->logits, &device->profile));
out:
    return status;
}

cnn_status infer_bench(infer_run *run)
{
    cnn_status status = CNN_ERR_MEMORY;
    size_t bytes = (size_t)run->batch * infer_image_bytes(run);
    bench_device devices[INFER_MAX_DEVICES] = {{.session = NULL}};
    bench_memory memory = {cnn_calloc(bytes, 1),
                           cnn_calloc((size_t)run->batch * (size_t)run->classes, sizeof *memory.logits),
                           cnn_calloc(MOST_RUNS, sizeof *memory.times)};
    if (!memory.images || !memory.logits || !memory.times)
        goto out;
    for (size_t i = 0; i < bytes; i++)
        memory.images[i] = (uint8_t)cnn_hash((uint64_t)run->cli->common.seed, CNN_PURPOSE_SYNTH, i, 0);
    for (int i = 0; i < run->device_count; i++)
        CNN_TRY(measure_device(run, i, &memory, &devices[i]));
    if (run->cli->common.json)
        write_json(run, devices);
    else
        CNN_TRY(print_results(run, devices));
out:
    for (int i = 0; i < run->device_count; i++) {
        infer_profile_free(&devices[i].profile);
        if (i > 0)
            cnn_session_close(devices[i].session);
    }
    free(memory.images);
    free(memory.logits);
    free(memory.times);
    return status;
}
