/* Where a training step goes: the time of each of its instructions. Compiled and run by bench/step.
 *
 *   step MODEL f32|f16|bf16 STEPS THREADS DEVICE
 *
 * Steps of 64 images of MNIST, or of CIFAR-10 where the network reads colors; medians over STEPS of them, after two
 * that are not counted. With one thread times are of the CPU, which others on the same machine disturb less. */
#define _POSIX_C_SOURCE 200809L
#include <cnn/cnn.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 64, MOST_STEPS = 1000, MOST_INSTRUCTIONS = 1000, WARM_UP = 2 };

typedef struct row {
    char text[120];
    double ms[MOST_STEPS];
    int steps;
} row;

static row rows[MOST_INSTRUCTIONS];
static int row_count;
static clockid_t clock_used = CLOCK_MONOTONIC;
static double last;

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(clock_used, &time);
    return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

static cnn_status record(void *context, const cnn_trace *trace)
{
    (void)context;
    const double now = now_ms();
    if (trace->instruction < MOST_INSTRUCTIONS) {
        row *r = &rows[trace->instruction];
        snprintf(r->text, sizeof r->text, "%-8s %-8s %-40s", trace->layer, trace->ends_in, trace->kernel);
        r->ms[r->steps++] = now - last;
        row_count = trace->instructions < MOST_INSTRUCTIONS ? trace->instructions : MOST_INSTRUCTIONS;
    }
    last = now_ms();
    return CNN_OK;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[count / 2];
}

static cnn_dtype storage_of(const char *name)
{
    return strcmp(name, "f16") == 0 ? CNN_F16 : strcmp(name, "bf16") == 0 ? CNN_BF16 : CNN_F32;
}

/* A session ready to train; NULL with the error recorded. */
static cnn_session *open_session(const char *name, cnn_dtype storage, const char *device)
{
    const float rate = 0.01f, scale = storage == CNN_F16 ? 65536.0f : 1.0f;
    const cnn_session_options options = {.device = device, .batch = BATCH, .train = true, .storage = storage};
    const cnn_train_state state = {.momentum = 0.9f,
                                   .growth = 2,
                                   .backoff = 0.5f,
                                   .floor = 1,
                                   .ceiling = 1 << 24,
                                   .growth_interval = 2000,
                                   .dynamic = storage == CNN_F16,
                                   .loss_scale = scale,
                                   .first_overflow = -1,
                                   .last_overflow = -1};
    const cnn_dataset_options fetch = {.fetch = true};
    cnn_model *model;
    cnn_session *session;
    cnn_dataset *data;
    if (cnn_model_create(name, &model) != CNN_OK)
        return NULL;
    const char *images = cnn_model_input(model).c == 3 ? "cifar10" : "mnist";
    if (cnn_dataset_load(images, CNN_SUBSET_TRAIN, &fetch, &data) != CNN_OK)
        return NULL;
    cnn_model_init(model, 1);
    if (cnn_session_open(model, &options, &session) != CNN_OK || cnn_session_set_data(session, data) != CNN_OK ||
        cnn_session_set_schedule(session, &rate, 1) != CNN_OK || cnn_session_set_state(session, &state) != CNN_OK)
        return NULL;
    printf("%s, batch of %d, %s\n", name, BATCH, cnn_session_device(session));
    return session;
}

static cnn_status run_steps(cnn_session *session, int steps, double *whole)
{
    int32_t index[BATCH];
    float result[2];
    for (int step = 0; step < steps + WARM_UP; step++) {
        for (int i = 0; i < BATCH; i++)
            index[i] = (step * BATCH + i) % 4000;
        if (step == WARM_UP)
            cnn_session_trace(session, record, NULL, false);
        const double start = last = now_ms();
        cnn_status status = cnn_session_step(session, index, BATCH, result);
        if (status != CNN_OK)
            return status;
        if (step >= WARM_UP)
            whole[step - WARM_UP] = now_ms() - start;
    }
    return CNN_OK;
}

int main(int argc, char **argv)
{
    static double whole[MOST_STEPS];
    const int steps = argc == 6 ? atoi(argv[3]) : 0, threads = argc == 6 ? atoi(argv[4]) : 0;
    if (steps < 1 || steps > MOST_STEPS) {
        fprintf(stderr, "step: MODEL f32|f16|bf16 STEPS THREADS DEVICE, with 1 to %d steps; see bench/step --help\n",
                MOST_STEPS);
        return 2;
    }
    if (threads == 1)
        clock_used = CLOCK_PROCESS_CPUTIME_ID;
    cnn_session *session = NULL;
    if (cnn_set_threads(threads) == CNN_OK)
        session = open_session(argv[1], storage_of(argv[2]), argv[5]);
    if (!session || run_steps(session, steps, whole) != CNN_OK) {
        fprintf(stderr, "step: %s\n", cnn_last_error());
        return 1;
    }
    double sum = 0;
    for (int i = 0; i < row_count; i++) {
        const double ms = median(rows[i].ms, rows[i].steps);
        printf("%2d %s %8.3f ms\n", i, rows[i].text, ms);
        sum += ms;
    }
    const double step = median(whole, steps);
    printf("sum %.2f ms, step %.2f ms: %.0f images/s\n", sum, step, 1e3 * BATCH / step);
    return 0;
}
