/* A binary arithmetic coder whose probabilities are learned on the way, in integers alone: the same bits on every
 * machine (docs/format.md, "The mixing coder").
 *
 * Each decision has some contexts. A context's counter estimates how likely a 1 is; the estimates are mixed in the
 * logistic domain with weights that learn too, and the mixture drives a range coder of 32 bits. Coder and decoder run
 * the same code: `bit` is what to code, and is not looked at when decoding. */
#ifndef CNN_CORE_MIX_CODER_H
#define CNN_CORE_MIX_CODER_H

#include "core/bytes.h"

enum {
    CNN_MIX_INPUTS = 8,        /* most contexts of a decision */
    CNN_MIX_REACH = 2815,      /* of the logistic domain, in 1/256: 11 */
    CNN_MIX_COUNTS = 256,      /* a counter's age stops before */
    CNN_MIX_STRETCH_BITS = 12, /* of a probability that is looked up */
    CNN_MIX_MOST = 1 << 24     /* a weight's magnitude: 256 */
};

/* p * 2^22 in the upper 22 bits, below how often it was seen. */
typedef uint32_t cnn_mix_counter;

/* Weights of one kind of decision, in 1/65536. */
typedef struct cnn_mixer {
    int32_t weight[CNN_MIX_INPUTS];
} cnn_mixer;

typedef struct cnn_mix_coder {
    bool decoding;
    uint32_t low, high;                         /* the interval, both inclusive */
    uint32_t code;                              /* decoding: where in it the coded number lies */
    const uint8_t *src, *end;                   /* decoding: what is left; beyond the end are zeros */
    cnn_bytes out;                              /* coding: what is certain */
    uint64_t decisions;                         /* coded so far */
    uint32_t chance;                            /* that the last one was given of being 1, in 1/65536 */
    uint16_t rate[CNN_MIX_COUNTS];              /* of a counter seen that often, in 1/65536 */
    int16_t stretch[1 << CNN_MIX_STRETCH_BITS]; /* ln(p / (1 - p)) in 1/256 */
    uint16_t squash[2 * CNN_MIX_REACH + 1];     /* its inverse, in 1/65536 */
} cnn_mix_coder;

/* Fresh coders, or NULL with an error recorded: one that codes; one that decodes `bytes` bytes. */
cnn_mix_coder *cnn_mix_encoder(void);
cnn_mix_coder *cnn_mix_decoder(const uint8_t *src, size_t bytes);
void cnn_mix_free(cnn_mix_coder *coder);

/* Ends coding: as few bytes as tell the last decisions, without zeros at the end. coder->out has all; its `failed` says
 * that memory ran out. */
void cnn_mix_finish(cnn_mix_coder *coder);

/* Decoding: whether the bytes end where and as cnn_mix_finish would have ended them. */
bool cnn_mix_ended(const cnn_mix_coder *coder);

void cnn_mix_start_counters(cnn_mix_counter *counters, size_t count);
void cnn_mix_start_mixer(cnn_mixer *mixer, int inputs);

/* Moves bytes that low and high share out of the way. */
void cnn_mix_shift_out(cnn_mix_coder *coder);

/* p: of a 1, in 1/65536, neither 0 nor 65536. */
static inline int cnn_mix_code_bit(cnn_mix_coder *coder, int bit, uint32_t p)
{
    const uint32_t middle = coder->low + (uint32_t)((uint64_t)(coder->high - coder->low) * p >> 16);
    if (coder->decoding)
        bit = coder->code <= middle;
    const uint32_t if_one = 0u - (uint32_t)bit; /* a branch here would be taken at random */
    coder->high ^= (coder->high ^ middle) & if_one;
    coder->low ^= (coder->low ^ (middle + 1)) & ~if_one;
    if ((coder->low ^ coder->high) >> 24 == 0)
        cnn_mix_shift_out(coder);
    return bit;
}

/* Moves a counter towards the bit by the rate of its age. */
static inline cnn_mix_counter cnn_mix_learn(const cnn_mix_coder *coder, cnn_mix_counter counter, int bit)
{
    const uint32_t age = counter & 1023;
    const uint64_t rate = coder->rate[age];
    const uint32_t turn = (0u - (uint32_t)bit) >> 10; /* all ones of 22 bits: p counts from the other end */
    uint32_t p = counter >> 10 ^ turn;
    p -= (uint32_t)(p * rate >> 16);
    p ^= turn;
    return p << 10 | (age + 1 < CNN_MIX_COUNTS ? age + 1 : age);
}

/* Codes one decision of `inputs` contexts and returns it. Here, so that loops over a known number of inputs unroll. */
static inline int cnn_mix_code(cnn_mix_coder *coder, int bit, cnn_mixer *mixer, cnn_mix_counter *const *context,
                               int inputs)
{
    int32_t guess[CNN_MIX_INPUTS];
    int64_t sum = 0;

    for (int i = 0; i < inputs; i++) {
        guess[i] = coder->stretch[*context[i] >> (32 - CNN_MIX_STRETCH_BITS)];
        sum += (int64_t)mixer->weight[i] * guess[i];
    }
    int64_t x = sum / 65536;
    x = x > CNN_MIX_REACH ? CNN_MIX_REACH : x < -CNN_MIX_REACH ? -CNN_MIX_REACH : x;
    int32_t p = coder->squash[x + CNN_MIX_REACH];
    p = p < 4 ? 4 : p > 65532 ? 65532 : p;
    bit = cnn_mix_code_bit(coder, bit, (uint32_t)p);
    coder->decisions++;
    coder->chance = (uint32_t)p;
    const int32_t error = (bit ? 65536 : 0) - p;
    for (int i = 0; i < inputs; i++) {
        const int32_t weight = mixer->weight[i] + guess[i] * error / 65536;
        mixer->weight[i] = weight > CNN_MIX_MOST ? CNN_MIX_MOST : weight < -CNN_MIX_MOST ? -CNN_MIX_MOST : weight;
        *context[i] = cnn_mix_learn(coder, *context[i], bit);
    }
    return bit;
}

#endif
