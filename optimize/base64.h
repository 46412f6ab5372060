/* Base64 (RFC 4648, with padding). */
#ifndef CNN_OPTIMIZE_BASE64_H
#define CNN_OPTIMIZE_BASE64_H

#include "core/memory.h"

void cnn_base64_append(cnn_text *text, const uint8_t *data, size_t bytes);

#endif
