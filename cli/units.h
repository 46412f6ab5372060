/* Time and sizes as people read them. */
#ifndef CNN_CLI_UNITS_H
#define CNN_CLI_UNITS_H

#include "core/clock.h"

#include <stdint.h>

enum { CNN_UNIT_BYTES = 32 };

/* "0.4 s", "12 s", "3 min 20 s", "2 h 05 min". Returns text. */
char *cnn_format_time(char text[CNN_UNIT_BYTES], double seconds);

/* "812 bytes", "1.9 MB" (powers of 1000). Returns text. */
char *cnn_format_bytes(char text[CNN_UNIT_BYTES], int64_t bytes);

/* "1,234,567". Returns text. */
char *cnn_format_count(char text[CNN_UNIT_BYTES], int64_t count);

#endif
