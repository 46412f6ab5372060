/* Proves on a whole test set that fake quantization and the INT8 program agree exactly:
 *
 *     verify_fake_quant MODEL.cnn [DEVICE]
 *
 * runs an INT8 model on the test images of the data it was trained on, as inference does and as observation shows it.
 * The logits must be the same bits, and every int8 value must be shown as its scale times a whole number in
 * [-127,127]. Prints what was compared; exits 1 when anything differs. */
#include "cnn/session.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/quantized.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct check {
    const cnn_model *model;
    const float *logits; /* of inference, [images,classes] */
    int64_t images, values, differ;
} check;

static cnn_status compare(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    check *c = context;
    int64_t count = cnn_desc_elements(desc);
    float scale = c->model->nodes[node].out_scale;
    /* Sums that the ReLU behind them requantizes are no int8 values: the ReLU's value is checked. */
    bool sums = cnn_int8_relu(c->model, node) >= 0;
    if (node == c->model->node_count - 1) {
        c->differ += memcmp(values, c->logits + c->images * desc->c, (size_t)count * sizeof *values) != 0;
        c->images += desc->n;
        c->values += count;
        return CNN_OK;
    }
    for (int64_t i = 0; !sums && i < count; i++) {
        float q = rintf(values[i] / scale);
        c->differ += !(fabsf(q) <= 127 && scale * q == values[i]);
    }
    c->values += sums ? 0 : count;
    return CNN_OK;
}

static cnn_status verify(const char *path, const char *device, check *c)
{
    cnn_status status = CNN_OK;
    cnn_model *model = NULL;
    cnn_dataset *data = NULL;
    cnn_session *session = NULL;
    float *logits = NULL;
    CNN_TRY(cnn_model_load(path, &model));
    const char *name = cnn_dataset_name(cnn_model_dataset(model));
    if (!cnn_model_is_quantized(model) || !name)
        CNN_FAIL(CNN_ERR_USAGE, "%s is not an INT8 model of a known data set", path);
    CNN_TRY(cnn_dataset_load(name, CNN_SUBSET_TEST, NULL, &data));
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = device}, &session));
    logits = cnn_calloc((size_t)data->count * (size_t)cnn_model_output(model).c, sizeof *logits);
    if (!logits)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_session_infer(session, data->images, data->count, logits));
    *c = (check){.model = model, .logits = logits};
    CNN_TRY(cnn_session_observe(session, data, NULL, data->count, compare, c));
out:
    free(logits);
    cnn_session_close(session);
    cnn_dataset_free(data);
    cnn_model_free(model);
    return status;
}

int main(int argc, char **argv)
{
    check c;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: verify_fake_quant MODEL.cnn [DEVICE]\n");
        return 2;
    }
    if (verify(argv[1], argc > 2 ? argv[2] : NULL, &c) != CNN_OK) {
        fprintf(stderr, "verify_fake_quant: %s\n", cnn_last_error());
        return 1;
    }
    printf("%s: %lld images, %lld values compared, %lld differ\n", argv[1], (long long)c.images, (long long)c.values,
           (long long)c.differ);
    return c.differ > 0;
}
