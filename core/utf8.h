/* UTF-8, one sequence at a time. */
#ifndef CNN_CORE_UTF8_H
#define CNN_CORE_UTF8_H

#include "cnn/status.h"

/* Bytes of the sequence at `text`, which ends in NUL (Unicode 15, table 3-7); 0 when it is none. */
int cnn_utf8_bytes(const char *text);

/* True for a control character (C0, DEL, C1) at `text`, a valid sequence. */
bool cnn_utf8_is_control(const char *text);

#endif
