/* Latency and throughput of a batch of random images: warm-up, then repetitions, then percentiles. */
#include "infer/infer.h"

#include "cli/json.h"
#include "cli/progress.h"
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
    int64_t peak_rss_bytes;
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

/* One batch; its time in seconds. */
static cnn_status time_batch(infer_run *run, const uint8_t *images, float *logits, double *seconds)
{
    double start = cnn_clock();
    cnn_status status = cnn_session_infer(run->session, images, run->batch, logits);
    *seconds = cnn_clock() - start;
    return status;
}

static bool measured_enough(int runs, double elapsed)
{
    return runs >= MOST_RUNS || (runs >= ENOUGH_RUNS && elapsed >= enough_s) ||
           (runs >= FEW_RUNS && elapsed >= patience_s);
}

/* times: [MOST_RUNS] scratch. */
static cnn_status measure(infer_run *run, const uint8_t *images, float *logits, double *times, bench_result *result)
{
    cnn_status status = CNN_OK;
    double seconds, sum = 0, start = cnn_clock();
    *result = (bench_result){.runs = 0};
    for (int i = 0; i < WARM_RUNS || cnn_clock() - start < warm_s; i++)
        CNN_TRY(time_batch(run, images, logits, &seconds));
    start = cnn_clock();
    while (!measured_enough(result->runs, cnn_clock() - start)) {
        CNN_TRY(time_batch(run, images, logits, &seconds));
        times[result->runs++] = 1e3 * seconds;
        sum += seconds;
    }
    qsort(times, (size_t)result->runs, sizeof *times, compare_doubles);
    result->p50 = percentile(times, result->runs, 0.5);
    result->p90 = percentile(times, result->runs, 0.9);
    result->p99 = percentile(times, result->runs, 0.99);
    result->images_per_s = result->runs * (double)run->batch / sum;
    result->peak_rss_bytes = peak_rss_bytes();
out:
    return status;
}

static void print_result(const infer_run *run, const bench_result *result)
{
    if (run->cli->common.json) {
        cnn_json json;
        cnn_json_begin(&json, stdout);
        cnn_json_integer(&json, "batch", run->batch);
        cnn_json_integer(&json, "threads", cnn_get_threads());
        cnn_json_number(&json, "ms_p50", result->p50);
        cnn_json_number(&json, "ms_p90", result->p90);
        cnn_json_number(&json, "ms_p99", result->p99);
        cnn_json_number(&json, "images_per_s", result->images_per_s);
        cnn_json_integer(&json, "peak_rss_bytes", result->peak_rss_bytes);
        cnn_json_integer(&json, "runs", result->runs);
        cnn_json_string(&json, "model", run->path);
        cnn_json_string(&json, "device", cnn_session_device(run->session));
        cnn_json_end(&json);
        return;
    }
    char rate[CNN_UNIT_BYTES], memory[CNN_UNIT_BYTES];
    printf("%s, %s\n", run->path, cnn_session_device(run->session));
    printf("batch of %d: p50 %.3f ms, p90 %.3f ms, p99 %.3f ms (%d runs)\n", run->batch, result->p50, result->p90,
           result->p99, result->runs);
    printf("%s images/s, peak memory %s\n", cnn_format_count(rate, (int64_t)(result->images_per_s + 0.5)),
           cnn_format_bytes(memory, result->peak_rss_bytes));
}

cnn_status infer_bench(infer_run *run)
{
    cnn_status status = CNN_ERR_MEMORY;
    size_t bytes = (size_t)run->batch * infer_image_bytes(run);
    bench_result result;
    uint8_t *images = cnn_calloc(bytes, 1);
    float *logits = cnn_calloc((size_t)run->batch * (size_t)run->classes, sizeof *logits);
    double *times = cnn_calloc(MOST_RUNS, sizeof *times);
    if (!images || !logits || !times)
        goto out;
    for (size_t i = 0; i < bytes; i++)
        images[i] = (uint8_t)cnn_hash((uint64_t)run->cli->common.seed, CNN_PURPOSE_SYNTH, i, 0);
    CNN_TRY(measure(run, images, logits, times, &result));
    print_result(run, &result);
out:
    free(images);
    free(logits);
    free(times);
    return status;
}
