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

/* Codes one decision of `inputs` contexts and returns it. */
int cnn_mix_code(cnn_mix_coder *coder, int bit, cnn_mixer *mixer, cnn_mix_counter *const *context, int inputs);

#endif
