/* A range asymmetric numeral system (rANS; Duda 2013) for bytes that take few values: four states in turn, 16 bits at a
 * time, frequencies in 1/4096 (docs/format.md, "rANS"). About as fast to decode as a file is to read. */
#ifndef CNN_CORE_RANS_H
#define CNN_CORE_RANS_H

#include "core/bytes.h"

enum { CNN_RANS_MOST_PARAMETERS = 4 * 255 };

/* Codes i8 values of -127 to 127. Out of memory is in the `failed` of what it appends to. */
void cnn_rans_encode(const int8_t *values, int64_t count, cnn_bytes *parameters, cnn_bytes *data);

/* Decodes `count` values. Returns CNN_ERR_MEMORY or CNN_OK; *wrong says what is wrong with the bytes, or stays NULL. */
cnn_status cnn_rans_decode(const uint8_t *parameters, size_t parameter_bytes, const uint8_t *data, size_t bytes,
                           int64_t count, int8_t *values, const char **wrong);

#endif
