/* The six GPUs that plans are made for: one card of each generation, figures from its data sheet and the CUDA
 * programming guide's table of compute capabilities. */
#include "tests/cudnn_plans/plans.h"

#include <stdio.h>

/* clang-format off */
const gpu_info gpus[GPUS] = {
    /* name      card                     sm    SMs  KiB threads blocks    MiB    L2  MHz   mem */
    {"sm_80",  "A100 40 GB",              800,  108, 163, 2048, 32,  40536,  40960, 1410,  1215},
    {"sm_86",  "RTX 3090",                860,   82,  99, 1536, 16,  24260,   6144, 1695,  9751},
    {"sm_89",  "RTX 4090",                890,  128,  99, 1536, 24,  24217,  73728, 2520, 10501},
    {"sm_90",  "H100 SXM",                900,  132, 227, 2048, 32,  81089,  51200, 1980,  2619},
    {"sm_100", "B200",                   1000,  148, 227, 2048, 32, 182638, 129536, 1965,  3996},
    {"sm_120", "RTX 5090",               1200,  170,  99, 1536, 24,  32103,  98304, 2407, 14001},
};
/* clang-format on */

char *gpu_describe(const gpu_info *of, char text[GPU_JSON_BYTES])
{
    snprintf(
        text, GPU_JSON_BYTES,
        "{\"deviceName\": \"NVIDIA %s\", \"deviceVer\": %d, \"driverVer\": 13000, \"cudaDeviceId\": 0, "
        "\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], \"regsPerBlock\": 65536, "
        "\"multiProcessorCount\": %d, \"warpSize\": 32, \"maxSharedMemoryPerBlock\": 49152, "
        "\"maxSharedMemoryPerBlockOptin\": %d, \"reservedSharedMemoryPerBlock\": 1024, \"maxRegistersPerSM\": 65536, "
        "\"maxCtasPerSM\": %d, \"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": %d, \"pciDeviceId\": 0, "
        "\"isTccDriver\": 0, \"supportCoopLaunch\": 1, \"totalGlobalMem\": %lld, \"smClockRateKHz\": %d, "
        "\"memClockRateKHz\": %d, \"l2CacheSize\": %lld}",
        of->card, of->version, of->multiprocessors, of->shared_kib * 1024, of->blocks, of->threads,
        (long long)of->memory_mib << 20, of->clock_mhz * 1000, of->memory_mhz * 1000, (long long)of->l2_kib << 10);
    return text;
}
