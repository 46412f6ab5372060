#include "core/mix_coder.h"

#include "core/memory.h"

#include <stdlib.h>

/* ---- Tables ---- */

/* e(i) = 2^32 exp(-i / 256), by repeated multiplication with 4278222805 / 2^32, rounded down; squash(x) is
 * 2^16 / (1 + exp(-x / 256)). */
static void fill_squash(cnn_mix_coder *coder)
{
    uint16_t *middle = coder->squash + CNN_MIX_REACH;
    uint64_t e = (uint64_t)1 << 32;
    for (int x = 0; x <= CNN_MIX_REACH; x++) {
        uint32_t p = (uint32_t)(((uint64_t)1 << 48) / (((uint64_t)1 << 32) + e));
        middle[x] = (uint16_t)p;
        middle[-x] = (uint16_t)(65536 - p);
        e = e * 4278222805u >> 32;
    }
}

/* The smallest x whose squash reaches the middle of the i-th of 4096 intervals. */
static void fill_stretch(cnn_mix_coder *coder)
{
    int at = 0;
    for (int i = 0; i < 1 << CNN_MIX_STRETCH_BITS; i++) {
        while (at < 2 * CNN_MIX_REACH && coder->squash[at] < 16 * i + 8)
            at++;
        coder->stretch[i] = (int16_t)(at - CNN_MIX_REACH);
    }
}

static cnn_mix_coder *new_coder(void)
{
    cnn_mix_coder *coder = cnn_calloc(1, sizeof *coder);
    if (!coder)
        return NULL;
    coder->high = UINT32_MAX;
    for (uint32_t n = 0; n < CNN_MIX_COUNTS; n++)
        coder->rate[n] = (uint16_t)(65536 / (n + 2));
    fill_squash(coder);
    fill_stretch(coder);
    return coder;
}

/* ---- The range coder ---- */

static uint8_t next_byte(cnn_mix_coder *coder)
{
    if (coder->src < coder->end)
        return *coder->src++;
    return 0;
}

cnn_mix_coder *cnn_mix_encoder(void)
{
    return new_coder();
}

cnn_mix_coder *cnn_mix_decoder(const uint8_t *src, size_t bytes)
{
    cnn_mix_coder *coder = new_coder();
    if (!coder)
        return NULL;
    coder->decoding = true;
    coder->src = src;
    coder->end = src + bytes;
    for (int i = 0; i < 4; i++)
        coder->code = coder->code << 8 | next_byte(coder);
    return coder;
}

void cnn_mix_free(cnn_mix_coder *coder)
{
    if (coder)
        cnn_bytes_free(&coder->out);
    free(coder);
}

void cnn_mix_shift_out(cnn_mix_coder *coder)
{
    while ((coder->low ^ coder->high) >> 24 == 0) {
        if (coder->decoding) {
            coder->code = coder->code << 8 | next_byte(coder);
        } else {
            const uint8_t byte = (uint8_t)(coder->high >> 24);
            cnn_bytes_put(&coder->out, &byte, 1);
        }
        coder->low <<= 8;
        coder->high = coder->high << 8 | 255;
    }
}

/* The number in the interval that has the fewest bytes, zeros at its end left out. */
static uint32_t shortest(const cnn_mix_coder *coder)
{
    for (int cut = 32; cut > 0; cut -= 8) {
        const uint64_t unit = (uint64_t)1 << cut, value = (coder->low + unit - 1) >> cut << cut;
        if (value <= coder->high)
            return (uint32_t)value;
    }
    return coder->low;
}

void cnn_mix_finish(cnn_mix_coder *coder)
{
    for (uint32_t value = shortest(coder); value; value <<= 8) {
        const uint8_t byte = (uint8_t)(value >> 24);
        cnn_bytes_put(&coder->out, &byte, 1);
    }
    while (coder->out.length > 0 && coder->out.data[coder->out.length - 1] == 0)
        coder->out.length--;
}

bool cnn_mix_ended(const cnn_mix_coder *coder)
{
    return coder->src == coder->end && coder->code == shortest(coder);
}

/* ---- Counters and mixers ---- */

void cnn_mix_start_counters(cnn_mix_counter *counters, size_t count)
{
    for (size_t i = 0; i < count; i++)
        counters[i] = (cnn_mix_counter)1 << 31; /* 1/2, never seen */
}

void cnn_mix_start_mixer(cnn_mixer *mixer, int inputs)
{
    for (int i = 0; i < inputs; i++)
        mixer->weight[i] = 65536 / inputs;
}
