/* Learning-rate schedules. The cosine is our own, so that its bits do not depend on the C library or on the CPU that
 * the library found. */
#include "train/schedule.h"

#include "cnn/ops.h"

#include <math.h>

static const double one_cycle_start = 1.0 / 25.0;
static const double one_cycle_end = 1e-4;
static const double one_cycle_warmup = 0.3; /* of the run */

/* cos(pi x) for x in [0,1], by cos(pi x) = -cos(pi (1-x)), cos(2a) = 2 cos(a)^2 - 1 and the Taylor series of cos up to
 * a^16, whose error for a <= pi/4 is below 1e-17. */
static double cosine_pi(double x)
{
    if (x > 0.5)
        return -cosine_pi(1.0 - x);
    const double half = 0.5 * 3.14159265358979323846 * x;
    const double square = half * half;
    double sum = 1.0;
    for (int k = 16; k >= 2; k -= 2)
        sum = 1.0 - sum * square / (double)(k * (k - 1));
    return 2.0 * sum * sum - 1.0;
}

/* ---- Shares of the learning rate ---- */

static double warmup_share(const cnn_schedule_plan *plan, int32_t t)
{
    return t < plan->warmup ? (double)(t + 1) / ((double)plan->warmup + 1.0) : 1.0;
}

static double share_constant(const cnn_schedule_plan *plan, int32_t t)
{
    return warmup_share(plan, t);
}

static double share_cosine(const cnn_schedule_plan *plan, int32_t t)
{
    if (t < plan->warmup)
        return warmup_share(plan, t);
    return 0.5 * (1.0 + cosine_pi((double)(t - plan->warmup) / (double)(plan->updates - plan->warmup)));
}

static double share_step(const cnn_schedule_plan *plan, int32_t t)
{
    const double drops = floor((double)t / plan->step);
    const int32_t times = drops < (double)INT32_MAX ? (int32_t)drops : INT32_MAX;
    return warmup_share(plan, t) * cnn_power((double)plan->gamma, times);
}

static double share_one_cycle(const cnn_schedule_plan *plan, int32_t t)
{
    if (t < plan->warmup)
        return one_cycle_start + (1.0 - one_cycle_start) * (double)t / (double)plan->warmup;
    const int32_t fall = plan->updates - 1 - plan->warmup;
    const double x = fall > 0 ? (double)(t - plan->warmup) / (double)fall : 0.0;
    return one_cycle_end + (1.0 - one_cycle_end) * 0.5 * (1.0 + cosine_pi(x));
}

/* ---- The table ---- */

#define SCHEDULES(ROW)                        \
    ROW(CONSTANT, "constant", share_constant) \
    ROW(COSINE, "cosine", share_cosine)       \
    ROW(STEP, "step", share_step)             \
    ROW(ONE_CYCLE, "one-cycle", share_one_cycle)

#define NAME_ROW(id, name, share) [CNN_SCHEDULE_##id] = (name),
const char *const cnn_schedule_names[] = {SCHEDULES(NAME_ROW) NULL};

typedef double (*schedule_share)(const cnn_schedule_plan *plan, int32_t t);

#define SHARE_ROW(id, name, share) [CNN_SCHEDULE_##id] = (share),
static const schedule_share shares[CNN_SCHEDULE_COUNT] = {SCHEDULES(SHARE_ROW)};

cnn_schedule_plan cnn_schedule_plan_make(const cnn_train_options *options, int32_t updates, int32_t epoch_updates)
{
    cnn_schedule_plan plan = {.kind = options->schedule, .rate = options->learning_rate, .updates = updates};
    const bool own = options->warmup < 0.0;
    const double standard = plan.kind == CNN_SCHEDULE_ONE_CYCLE ? one_cycle_warmup * (double)updates : 0.0;
    const double warmup = own ? standard : options->warmup * (double)epoch_updates;
    plan.warmup = warmup < (double)updates ? (int32_t)floor(warmup + 0.5) : updates;
    if (plan.warmup > updates - 1)
        plan.warmup = updates - 1;
    plan.step = options->lr_step * (double)epoch_updates;
    plan.gamma = options->lr_gamma;
    return plan;
}

int32_t cnn_schedule_length(const cnn_schedule_plan *plan)
{
    return plan->kind == CNN_SCHEDULE_CONSTANT ? plan->warmup + 1 : plan->updates;
}

void cnn_schedule_fill(const cnn_schedule_plan *plan, float *rates)
{
    const int32_t length = cnn_schedule_length(plan);
    for (int32_t t = 0; t < length; t++)
        rates[t] = (float)((double)plan->rate * shares[plan->kind](plan, t));
}
