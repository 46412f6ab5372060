/* The AMX instructions that kernels use, on tiles of up to 16 rows of 64 bytes.
 *
 * With CNN_CPU_EMULATED they are functions in C, so that tests can run the kernels on CPUs without AMX. Numbers of
 * tiles must be literals, for the compiler's macros. */
#ifndef CNN_CPU_AMX_H
#define CNN_CPU_AMX_H

#include <stdint.h>
#include <string.h>

#if defined(CNN_CPU_EMULATED)
#include "tests/isa/amx_emulated.h"
#define CNN_AMX
#define CNN_TILE(instruction) emulated_##instruction
#else
#include <immintrin.h>
#define CNN_AMX __attribute__((target("amx-tile,amx-int8,amx-bf16")))
#define CNN_TILE(instruction) _tile_##instruction
#endif

/* What ldtilecfg reads. A tile has both rows and bytes in a row, or neither. */
typedef struct cnn_amx_config {
    uint8_t palette; /* 1 */
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16]; /* of each tile; there are 8 */
    uint8_t rows[16];
} cnn_amx_config;

/* gcc's intrinsics do not say what memory they read. */
static inline void cnn_amx_fence(const void *read)
{
    __asm__ volatile("" : : "r"(read) : "memory");
}

#endif
