/* What this CPU can do, and which level of kernels to use. */
#define _DEFAULT_SOURCE /* syscall */
#include "kernels/cpu/isa.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#define CNN_CPU_X86 1
#include <cpuid.h>
#endif
#if defined(CNN_CPU_AMX_BUILT)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* One row a level: what it is called, the level right below it, whether there are kernels that make use of it. */
typedef struct level {
    const char *name;
    cnn_cpu_isa below; /* itself at the bottom */
    bool has_kernels;
    const char *needs; /* for the sentence that refuses it */
} level;

#if defined(CNN_CPU_X86)
enum { X86_KERNELS = 1 };
#else
enum { X86_KERNELS = 0 };
#endif
#if defined(CNN_CPU_AVXVNNI_BUILT)
enum { AVXVNNI_KERNELS = 1 };
#else
enum { AVXVNNI_KERNELS = 0 };
#endif
#if defined(CNN_CPU_AMX_BUILT)
enum { AMX_KERNELS = 1 };
#else
enum { AMX_KERNELS = 0 };
#endif

const char *const cnn_cpu_isa_built[] = {
    "portable",
#if defined(CNN_CPU_X86)
    "avx2",
#if defined(CNN_CPU_AVXVNNI_BUILT)
    "avxvnni",
#endif
    "avx512",   "avx512vnni",
#if defined(CNN_CPU_AMX_BUILT)
    "amx",
#endif
#endif
    NULL,
};

static const level levels[CNN_CPU_ISA_COUNT] = {
    [CNN_CPU_PORTABLE] = {"portable", CNN_CPU_PORTABLE, true, "nothing"},
    [CNN_CPU_AVX2] = {"avx2", CNN_CPU_PORTABLE, X86_KERNELS, "AVX2, FMA and F16C"},
    [CNN_CPU_AVXVNNI] = {"avxvnni", CNN_CPU_AVX2, AVXVNNI_KERNELS, "AVX-VNNI"},
    [CNN_CPU_AVX512] = {"avx512", CNN_CPU_AVX2, X86_KERNELS, "AVX-512 F, BW, VL and DQ"},
    [CNN_CPU_AVX512VNNI] = {"avx512vnni", CNN_CPU_AVX512, X86_KERNELS, "AVX-512 VNNI"},
    [CNN_CPU_AMX] = {"amx", CNN_CPU_AVX512VNNI, AMX_KERNELS, "AMX tiles with int8 and bf16"},
};

const char *cnn_cpu_isa_name(cnn_cpu_isa isa)
{
    return levels[isa].name;
}

bool cnn_cpu_isa_holds(cnn_cpu_isa isa, cnn_cpu_isa needed)
{
    while (isa != needed && isa != CNN_CPU_PORTABLE)
        isa = levels[isa].below;
    return isa == needed;
}

#if defined(CNN_CPU_X86)
/* Bit `bit` of one register (0 eax, 1 ebx, 2 ecx, 3 edx) of a cpuid leaf. */
static bool cpuid_bit(unsigned leaf, unsigned subleaf, int reg, int bit)
{
    unsigned out[4] = {0, 0, 0, 0};
    if (!__get_cpuid_count(leaf, subleaf, &out[0], &out[1], &out[2], &out[3]))
        return false;
    return (out[reg] >> bit & 1u) != 0;
}

/* The compiler's builtin also asks the system (xgetbv) whether it saves the wide registers. */
static bool cpu_has(cnn_cpu_isa isa)
{
    __builtin_cpu_init();
    switch (isa) {
    case CNN_CPU_PORTABLE:
        return true;
    case CNN_CPU_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && cpuid_bit(1, 0, 2, 29);
    case CNN_CPU_AVXVNNI:
#if defined(CNN_CPU_EMULATED) /* the kernels then take the instruction from AVX-512 */
        return cpu_has(CNN_CPU_AVX512VNNI);
#else
        return cpu_has(CNN_CPU_AVX2) && cpuid_bit(7, 1, 0, 4);
#endif
    case CNN_CPU_AVX512:
        return cpu_has(CNN_CPU_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    case CNN_CPU_AVX512VNNI:
        return cpu_has(CNN_CPU_AVX512) && __builtin_cpu_supports("avx512vnni");
    case CNN_CPU_AMX:
#if defined(CNN_CPU_EMULATED)
        return cpu_has(CNN_CPU_AVX512VNNI);
#else
        return cpu_has(CNN_CPU_AVX512VNNI) && cpuid_bit(7, 0, 3, 22) && cpuid_bit(7, 0, 3, 24) &&
               cpuid_bit(7, 0, 3, 25);
#endif
    default:
        return false;
    }
}

void cnn_cpu_model_name(char *text, size_t text_bytes)
{
    union {
        unsigned word[12];
        char text[49];
    } brand = {{0}};
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &brand.word[4 * i], &brand.word[4 * i + 1], &brand.word[4 * i + 2],
                         &brand.word[4 * i + 3]))
            break;
    brand.text[48] = '\0';
    const char *start = brand.text + strspn(brand.text, " ");
    int length = (int)strlen(start);
    while (length > 0 && start[length - 1] == ' ')
        length--;
    if (length > 0)
        snprintf(text, text_bytes, "%.*s", length, start);
    else
        snprintf(text, text_bytes, "x86 CPU");
}
#else
static bool cpu_has(cnn_cpu_isa isa)
{
    return isa == CNN_CPU_PORTABLE;
}

void cnn_cpu_model_name(char *text, size_t text_bytes)
{
#if defined(__aarch64__)
    snprintf(text, text_bytes, "aarch64 CPU");
#else
    snprintf(text, text_bytes, "CPU");
#endif
}
#endif

#if defined(CNN_CPU_AMX_BUILT) && !defined(CNN_CPU_EMULATED)
/* Asks for the use of tiles, for the whole process. If the system does not save them, or says no: why, else NULL. */
static const char *ask_for_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_CONFIG = 17, TILE_DATA = 18 };
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low >> TILE_CONFIG & low >> TILE_DATA & 1u) == 0)
        return "it does not save them";
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 ? NULL : strerror(errno);
}
#else
static const char *ask_for_tiles(void)
{
    return NULL;
}
#endif

/* setting: how the user gave the name, "CNN_CPU_ISA=". */
static cnn_status choose_by_name(const cnn_host *host, const char *setting, const char *name, cnn_cpu_isa *isa)
{
    for (int i = 0; i < CNN_CPU_ISA_COUNT; i++) {
        if (strcmp(levels[i].name, name) != 0)
            continue;
        if (!cpu_has((cnn_cpu_isa)i))
            return host->error(CNN_ERR_UNSUPPORTED, "%s%s: this CPU lacks %s; choose a lower level", setting, name,
                               levels[i].needs);
        if (!levels[i].has_kernels)
            return host->error(CNN_ERR_UNSUPPORTED, "%s%s: this build has no kernels of that level; use %s", setting,
                               name, levels[levels[i].below].name);
        const char *denied = i == CNN_CPU_AMX ? ask_for_tiles() : NULL;
        if (denied)
            return host->error(CNN_ERR_UNSUPPORTED, "%s%s: the system does not let us use AMX's tiles (%s); use %s",
                               setting, name, denied, levels[levels[i].below].name);
        *isa = (cnn_cpu_isa)i;
        return CNN_OK;
    }
    return host->error(CNN_ERR_USAGE, "%s%.40s is not known; use portable, avx2, avxvnni, avx512, avx512vnni or amx",
                       setting, name);
}

cnn_status cnn_cpu_isa_choose(const cnn_host *host, const char *asked, cnn_cpu_isa *isa)
{
    const char *name = getenv("CNN_CPU_ISA");
    if (asked)
        return choose_by_name(host, "device cpu:", asked, isa);
    if (name && *name)
        return choose_by_name(host, "CNN_CPU_ISA=", name, isa);
    int best = CNN_CPU_ISA_COUNT - 1;
    while (!levels[best].has_kernels || !cpu_has((cnn_cpu_isa)best) || (best == CNN_CPU_AMX && ask_for_tiles()))
        best--;
    *isa = (cnn_cpu_isa)best;
    return CNN_OK;
}
