/* How small and how fast each way of coding i8 weights is. Compiled and run by bench/coder.
 *
 *   coder MODEL.cnn...
 *
 * One line for each tensor of i8 weights, and one for all of a model: bytes in each form, and how fast rANS and the
 * mixing coder decode them on one core, the best of five times. Each form is decoded and compared first. */
#define _POSIX_C_SOURCE 200809L
#include "core/file_encoding.h"
#include "core/memory.h"
#include "core/model.h"
#include "core/weight_coder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TRIES = 5 };

typedef struct figures {
    int64_t values, decisions;
    size_t bytes[CNN_ENCODING_COUNT];
    double seconds[CNN_ENCODING_COUNT]; /* to decode */
} figures;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Binary decisions of the mixing coder. */
static int64_t count_decisions(const cnn_param *weight)
{
    cnn_mix_coder *coder = cnn_mix_encoder();
    int64_t decisions = 0;
    if (coder && cnn_weights_code(coder, &weight->desc, weight->data) == CNN_OK)
        decisions = (int64_t)coder->decisions;
    cnn_mix_free(coder);
    return decisions;
}

static int measure_coding(const cnn_param *weight, int encoding, void *again, figures *f)
{
    const cnn_tensor_coding *coding = &cnn_tensor_codings[encoding];
    cnn_bytes parameters = {0}, data = {0};
    const char *wrong = NULL;
    double best = 1e9;
    if (coding->encode(&weight->desc, weight->data, &parameters, &data) != CNN_OK)
        return 1;
    const cnn_coded coded = {parameters.data, data.data, parameters.length, data.length};
    for (int i = 0; i < TRIES; i++) {
        const double start = now();
        if (coding->decode(&weight->desc, &coded, again, &wrong) != CNN_OK || wrong)
            return 1;
        const double seconds = now() - start;
        best = seconds < best ? seconds : best;
    }
    f->bytes[encoding] = parameters.length + data.length;
    f->seconds[encoding] = best;
    cnn_bytes_free(&parameters);
    cnn_bytes_free(&data);
    return memcmp(again, weight->data, cnn_desc_bytes(&weight->desc)) != 0;
}

static void print_line(const char *name, const figures *f)
{
    printf("%-12s %10lld %10zu %10zu %10zu %9.0f %9.0f %9.1f\n", name, (long long)f->values,
           f->bytes[CNN_ENCODING_BITMAP], f->bytes[CNN_ENCODING_RANS], f->bytes[CNN_ENCODING_RANGE],
           1e-6 * (double)f->values / f->seconds[CNN_ENCODING_RANS],
           1e-6 * (double)f->values / f->seconds[CNN_ENCODING_RANGE],
           1e-6 * (double)f->decisions / f->seconds[CNN_ENCODING_RANGE]);
}

static int measure_tensor(const cnn_node *node, figures *all)
{
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    static const int encodings[] = {CNN_ENCODING_BITMAP, CNN_ENCODING_RANS, CNN_ENCODING_RANGE};
    figures f = {.values = cnn_desc_elements(&weight->desc)};
    void *again = cnn_aligned_alloc(cnn_desc_bytes(&weight->desc));
    int failed = !again;
    f.decisions = count_decisions(weight);
    for (int i = 0; i < 3 && !failed; i++) {
        failed = measure_coding(weight, encodings[i], again, &f);
        all->bytes[encodings[i]] += f.bytes[encodings[i]];
        all->seconds[encodings[i]] += f.seconds[encodings[i]];
    }
    all->values += f.values;
    all->decisions += f.decisions;
    if (!failed)
        print_line(node->name, &f);
    else
        fprintf(stderr, "coder: %s does not come back as it was\n", node->name);
    cnn_aligned_free(again);
    return failed;
}

int main(int argc, char **argv)
{
    printf("%-12s %10s %10s %10s %10s %9s %9s %9s\n", "layer", "values", "bitmap B", "rANS B", "mixed B", "rANS MB/s",
           "mix. MB/s", "Mbits/s");
    for (int i = 1; i < argc; i++) {
        cnn_model *model;
        figures all = {0};
        if (cnn_model_load(argv[i], &model) != CNN_OK) {
            fprintf(stderr, "coder: %s\n", cnn_last_error());
            return 1;
        }
        for (int n = 0; n < model->node_count; n++)
            if (model->nodes[n].param[CNN_PARAM_WEIGHT].desc.dtype == CNN_I8 && measure_tensor(&model->nodes[n], &all))
                return 1;
        if (all.values > 0)
            print_line("all", &all);
        cnn_model_free(model);
    }
    return 0;
}
