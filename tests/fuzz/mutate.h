/* What mutators share: those that know a format, change a part of it and make right again what depends on it (lengths,
 * places, checksums), so that the code behind such checks is reached. */
#ifndef CNN_FUZZ_MUTATE_H
#define CNN_FUZZ_MUTATE_H

#include "core/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* libFuzzer's own changes of bytes (or those of replay.c), and what this mutator gives it. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* Numbers that follow from a seed alone. */
typedef struct fuzz_random {
    uint64_t state;
} fuzz_random;

uint64_t fuzz_next(fuzz_random *random);
uint64_t fuzz_below(fuzz_random *random, uint64_t count); /* 0 when count is 0 */
/* A number that code gets wrong: near the old one, small, near a power of two, any. */
uint64_t fuzz_number(fuzz_random *random, uint64_t old);
/* Zeros, infinities, NaN, subnormal and huge numbers, and usual ones. */
float fuzz_float(fuzz_random *random, float old);

/* Cleared memory until the next fuzz_forget; ends the process when it is used up. */
void *fuzz_block(size_t bytes);
void fuzz_forget(void);

/* Bytes that may be changed. */
typedef struct fuzz_part {
    uint8_t *data;
    size_t bytes;
} fuzz_part;

fuzz_part fuzz_copy(const uint8_t *data, size_t bytes);
void fuzz_change(fuzz_part *part);               /* by LLVMFuzzerMutate */
void fuzz_resize(fuzz_part *part, size_t bytes); /* cuts, or repeats what is there (zeros when nothing is) */

#endif
