/* Packing INT8 weights for direct convolutions. See direct_i8.h. */
#include "kernels/cpu/direct_i8.h"

#include <string.h>

typedef struct pack_job {
    cnn_i8_direct *direct;
    const int8_t *values;
    bool blocks;
    int32_t *begin; /* blocks: at first their number */
    int8_t *weights;
    int32_t *sums;
    uint32_t *offset;
} pack_job;

/* The group of 4 channels from c on at one position of the filter, of the 16 outputs of a panel; 0 beyond the last
 * output and channel. False when all are 0. */
static bool load_group(const pack_job *job, int32_t panel, int64_t position, int32_t c,
                       int8_t group[CNN_I8_GROUP_BYTES])
{
    const cnn_tensor_desc *weight = job->direct->weight;
    const int64_t output = (int64_t)weight->h * weight->w * weight->c_pad;
    const int32_t k0 = panel * CNN_I8_PANEL, outputs = weight->n - k0 < CNN_I8_PANEL ? weight->n - k0 : CNN_I8_PANEL;
    const int8_t *src = job->values + k0 * output + position * weight->c_pad + c;
    uint32_t any = 0;
    memset(group, 0, CNN_I8_GROUP_BYTES);
    for (int32_t i = 0; i < outputs; i++, src += output) {
        uint32_t bytes = 0;
        if (c + CNN_I8_GROUP <= weight->c)
            memcpy(&bytes, src, CNN_I8_GROUP);
        else
            memcpy(&bytes, src, (size_t)(weight->c > c ? weight->c - c : 0));
        any |= bytes;
        memcpy(group + i * CNN_I8_GROUP, &bytes, CNN_I8_GROUP);
    }
    return any != 0;
}

/* sums of one tap: -128 * the sum of its weights, output by output. */
static void add_sums(const int8_t group[CNN_I8_GROUP_BYTES], int32_t sums[CNN_I8_PANEL])
{
    for (int32_t i = 0; i < CNN_I8_PANEL; i++)
        for (int32_t c = 0; c < CNN_I8_GROUP; c++)
            sums[i] -= 128 * group[i * CNN_I8_GROUP + c];
}

/* What is known of tap number t of a panel, in the order in which it is packed. */
typedef struct tap {
    int32_t row, column;
    int64_t position; /* of its first spot in the weights */
} tap;

static tap tap_of(const pack_job *job, int32_t t)
{
    const cnn_i8_direct *direct = job->direct;
    tap found = {t / direct->columns, t % direct->columns, 0};
    if (job->blocks)
        found = (tap){t % direct->rows, t / direct->rows, 0};
    found.position = ((int64_t)found.row * direct->columns + found.column) * direct->spots;
    return found;
}

static int32_t taps_of(const cnn_i8_direct *direct)
{
    return direct->rows * direct->columns;
}

/* Task: counts the blocks of a panel that are not zero. */
static void count_task(void *context, int panel, int worker)
{
    const pack_job *job = context;
    const cnn_i8_direct *direct = job->direct;
    const int32_t in_spot = direct->groups / direct->spots;
    int32_t *count = job->begin + (size_t)panel * (size_t)taps_of(direct);
    int8_t group[CNN_I8_GROUP_BYTES];
    (void)worker;
    for (int32_t t = 0; t < taps_of(direct); t++) {
        const tap at = tap_of(job, t);
        count[t] = 0;
        for (int32_t g = 0; g < direct->groups; g++)
            count[t] += load_group(job, panel, at.position + g / in_spot, g % in_spot * CNN_I8_GROUP, group);
    }
}

/* Task: packs a panel. */
static void pack_task(void *context, int panel, int worker)
{
    const pack_job *job = context;
    const cnn_i8_direct *direct = job->direct;
    const int32_t in_spot = direct->groups / direct->spots, taps = taps_of(direct);
    int32_t *sums = job->sums + (size_t)panel * (size_t)taps * CNN_I8_PANEL;
    int64_t block = job->blocks ? job->begin[(size_t)panel * (size_t)taps] : (int64_t)panel * taps * direct->groups;
    int8_t group[CNN_I8_GROUP_BYTES];
    (void)worker;
    memset(sums, 0, (size_t)taps * CNN_I8_PANEL * sizeof *sums);
    for (int32_t t = 0; t < taps; t++) {
        const tap at = tap_of(job, t);
        for (int32_t g = 0; g < direct->groups; g++) {
            const bool any = load_group(job, panel, at.position + g / in_spot, g % in_spot * CNN_I8_GROUP, group);
            if (!any && job->blocks)
                continue;
            add_sums(group, sums + (at.row * direct->columns + at.column) * CNN_I8_PANEL);
            memcpy(job->weights + block * CNN_I8_GROUP_BYTES, group, CNN_I8_GROUP_BYTES);
            if (job->blocks)
                job->offset[block] = (uint32_t)((size_t)g * direct->plane_bytes + (size_t)at.row * direct->line_bytes);
            block++;
        }
    }
}

/* Numbers of blocks become the number of the first of each tap, and of the end; returns how many there are. */
static int64_t number_blocks(int32_t *begin, int64_t taps)
{
    int32_t first = 0;
    for (int64_t i = 0; i < taps; i++) {
        const int32_t count = begin[i];
        begin[i] = first;
        first += count;
    }
    begin[taps] = first;
    return first;
}

static cnn_status out_of_memory(const cnn_host *host, size_t bytes)
{
    return host->error(CNN_ERR_MEMORY, "out of memory: %zu bytes for packed weights", bytes);
}

cnn_status cnn_cpu_pack_direct_i8(cnn_i8_direct *direct, const cnn_host *host, const int8_t *values, bool blocks)
{
    const int64_t taps = (int64_t)direct->panels * taps_of(direct);
    const size_t begins = (size_t)(taps + 1) * sizeof(int32_t);
    pack_job job = {.direct = direct, .values = values, .blocks = blocks};
    int64_t count = taps * direct->groups;
    int32_t *begin = NULL;
    host->free(direct->memory);
    direct->memory = NULL;
    if (blocks) {
        begin = job.begin = host->alloc(begins);
        if (!begin)
            return out_of_memory(host, begins);
        host->parallel(direct->panels, count_task, &job);
        count = number_blocks(begin, taps);
    }
    const size_t weights = cnn_cpu_aligned((size_t)count * CNN_I8_GROUP_BYTES);
    const size_t sums = cnn_cpu_aligned((size_t)taps * CNN_I8_PANEL * sizeof(int32_t));
    const size_t lists = blocks ? cnn_cpu_aligned(begins) : 0;
    const size_t bytes = weights + sums + lists + (blocks ? (size_t)count * sizeof(uint32_t) : 0);
    char *memory = direct->memory = host->alloc(bytes);
    if (!memory) {
        host->free(begin);
        return out_of_memory(host, bytes);
    }
    job.weights = (int8_t *)memory;
    job.sums = (int32_t *)(void *)(memory + weights);
    job.offset = (uint32_t *)(void *)(memory + weights + sums + lists);
    if (blocks) {
        memcpy(memory + weights + sums, begin, begins);
        host->free(begin);
        job.begin = (int32_t *)(void *)(memory + weights + sums);
    }
    host->parallel(direct->panels, pack_task, &job);
    direct->weights = job.weights;
    direct->sums = job.sums;
    direct->begin = job.begin;
    direct->offset = job.offset;
    return CNN_OK;
}
