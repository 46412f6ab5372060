/* Time and sizes as people read them. */
#include "cli/units.h"

#include <stdio.h>
#include <string.h>

char *cnn_format_time(char text[CNN_UNIT_BYTES], double seconds)
{
    const double longest = 1e9; /* 30 years: whatever takes longer takes for ever */
    if (!(seconds < longest))
        seconds = longest;
    long long whole = (long long)(seconds + 0.5);
    if (seconds < 9.95)
        snprintf(text, CNN_UNIT_BYTES, "%.1f s", seconds);
    else if (whole < 60)
        snprintf(text, CNN_UNIT_BYTES, "%lld s", whole);
    else if (whole < 3600)
        snprintf(text, CNN_UNIT_BYTES, "%lld min %02lld s", whole / 60, whole % 60);
    else
        snprintf(text, CNN_UNIT_BYTES, "%lld h %02lld min", whole / 3600, whole % 3600 / 60);
    return text;
}

char *cnn_format_bytes(char text[CNN_UNIT_BYTES], int64_t bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB"};
    enum { UNITS = sizeof units / sizeof units[0] };
    if (bytes < 1000) {
        snprintf(text, CNN_UNIT_BYTES, "%lld bytes", (long long)bytes);
        return text;
    }
    double value = (double)bytes / 1000;
    int unit = 0;
    while (value >= 999.5 && unit < UNITS - 1) {
        value /= 1000;
        unit++;
    }
    snprintf(text, CNN_UNIT_BYTES, value < 99.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

char *cnn_format_count(char text[CNN_UNIT_BYTES], int64_t count)
{
    char digits[CNN_UNIT_BYTES];
    snprintf(digits, sizeof digits, "%llu", count < 0 ? 0ull - (unsigned long long)count : (unsigned long long)count);
    size_t length = strlen(digits), at = 0;
    if (count < 0)
        text[at++] = '-';
    for (size_t i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}
