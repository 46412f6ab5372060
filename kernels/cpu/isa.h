/* Instruction set levels of the CPU backend and how one is chosen. */
#ifndef CNN_CPU_ISA_H
#define CNN_CPU_ISA_H

#include "cnn/backend.h"

/* Levels whose instructions came late: compilers must know them. */
#if defined(__x86_64__) && (__GNUC__ >= 11 || (defined(__clang__) && __clang_major__ >= 12))
#define CNN_CPU_AVXVNNI_BUILT 1
#if defined(__linux__) /* where a program asks for AMX before it uses it */
#define CNN_CPU_AMX_BUILT 1
#endif
#endif

typedef enum cnn_cpu_isa {
    CNN_CPU_PORTABLE = 0,
    CNN_CPU_AVX2,    /* AVX2, FMA, F16C */
    CNN_CPU_AVXVNNI, /* AVX2 and 256-bit VNNI */
    CNN_CPU_AVX512,  /* AVX2 and AVX-512 F, BW, VL, DQ */
    CNN_CPU_AVX512VNNI,
    CNN_CPU_AMX, /* AVX512VNNI and AMX tiles of int8 and bf16 */
    CNN_CPU_ISA_COUNT
} cnn_cpu_isa;

/* "avx512vnni" */
const char *cnn_cpu_isa_name(cnn_cpu_isa isa);

/* True when a CPU of level `isa` runs code of level `needed`: every level holds portable and avx2 below it, but
 * avx512 does not hold avxvnni. */
bool cnn_cpu_isa_holds(cnn_cpu_isa isa, cnn_cpu_isa needed);

/* Names of the levels that have kernels in this build, lowest first; NULL after the last. */
extern const char *const cnn_cpu_isa_built[];

/* The level to use: what `asked` names, else what the environment's CNN_CPU_ISA names, else the best that this CPU has
 * and that has kernels and the system lets us use. An unknown name, a level that this CPU lacks, that has no kernels or
 * that the system does not let us use is an error. */
cnn_status cnn_cpu_isa_choose(const cnn_host *host, const char *asked, cnn_cpu_isa *isa);

/* The processor's own name, "AMD EPYC 9B14"; where it has none, the architecture's. */
void cnn_cpu_model_name(char *text, size_t text_bytes);

#endif
