/* Random networks: what they look like and what they hold follow from a number. */
#ifndef CNN_DIFFERENTIAL_GRAPH_H
#define CNN_DIFFERENTIAL_GRAPH_H

#include "cnn/dataset.h"
#include "core/memory.h"
#include "core/model.h"

/* Numbers that follow from where they begin. */
typedef struct graph_random {
    uint64_t state;
} graph_random;

uint64_t graph_below(graph_random *random, uint64_t count);
bool graph_one_in(graph_random *random, uint64_t count);
float graph_uniform(graph_random *random); /* in [-1, 1) */

/* Appends a description as in a .cfg: convolutions of every kind with and without batch norm, activations, pools, sums,
 * channels side by side, dropout, linear layers. At most MOST_MACS multiplications. */
enum { GRAPH_MOST_MACS = 400000 };
void graph_write(graph_random *random, cnn_text *cfg);

/* Random parameters, many of them awkward: channels of zeros, huge and tiny ones, few values, variances near 0. */
void graph_fill(graph_random *random, cnn_model *model);

/* Random images of the model's form; some are one colour. Free with graph_free_images. */
cnn_dataset graph_images(graph_random *random, const cnn_model *model, int count);
void graph_free_images(cnn_dataset *data);

#endif
