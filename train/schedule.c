/* Learning-rate schedules. The cosine is our own, so that its bits do not depend on the C library or on the CPU that
 * the library found. */
#include "train/schedule.h"

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

int32_t cnn_schedule_length(cnn_schedule schedule, int32_t updates)
{
    return schedule == CNN_SCHEDULE_CONSTANT ? 1 : updates;
}

void cnn_schedule_fill(cnn_schedule schedule, float learning_rate, int32_t updates, float *rates)
{
    const int32_t length = cnn_schedule_length(schedule, updates);
    for (int32_t t = 0; t < length; t++) {
        const double share =
            schedule == CNN_SCHEDULE_COSINE ? 0.5 * (1.0 + cosine_pi((double)t / (double)updates)) : 1.0;
        rates[t] = (float)((double)learning_rate * share);
    }
}
