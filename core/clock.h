/* Seconds of a clock that never jumps. */
#ifndef CNN_CORE_CLOCK_H
#define CNN_CORE_CLOCK_H

double cnn_clock(void);

#endif
