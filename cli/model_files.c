/* Reading and writing models: ours, and those of other tools. */
#include "cli/model_files.h"

#include "cli/message.h"
#include "cnn/onnx.h"
#include "cnn/safetensors.h"
#include "core/error.h"
#include "core/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool ends_in(const char *path, const char *ending)
{
    const size_t length = strlen(path), end = strlen(ending);
    return length > end && strcasecmp(path + length - end, ending) == 0;
}

static bool is_onnx(const char *path)
{
    return ends_in(path, ".onnx");
}

bool cnn_cli_is_weights(const char *path)
{
    return ends_in(path, ".safetensors");
}

bool cnn_cli_is_foreign(const char *path)
{
    return is_onnx(path) || cnn_cli_is_weights(path);
}

/* Numbers with a / between, up to a comma or the end: one for all channels, or one each. Returns where it ends. */
static const char *read_numbers(const char *text, float values[4])
{
    int count = 0;
    for (;; text++) {
        char *end;
        const double value = strtod(text, &end);
        if (end == text || !isfinite(value) || count == 4)
            return NULL;
        values[count++] = (float)value;
        text = end;
        if (*text != '/')
            break;
    }
    for (int c = count; c < 4; c++)
        values[c] = values[count - 1];
    return text;
}

/* "MEAN,DEVIATION" */
static cnn_status parse_normalize(const char *text, cnn_normalization *input)
{
    const char *comma = read_numbers(text, input->mean);
    const char *end = comma && *comma == ',' ? read_numbers(comma + 1, input->std) : NULL;
    bool positive = end && !*end;
    for (int c = 0; c < 4 && positive; c++)
        positive = isnormal(input->std[c]) && input->std[c] > 0;
    if (!positive)
        return cnn_error(
            CNN_ERR_USAGE,
            "option --normalize: '%.80s' is no MEAN,DEVIATION, such as 0.1307,0.3081, or with a number for "
            "each channel 0.485/0.456/0.406,0.229/0.224/0.225",
            text);
    return CNN_OK;
}

/* Pixels that nothing was done to. */
static bool is_plain(const cnn_model *model)
{
    cnn_normalization plain = {{0, 0, 0, 0}, {1, 1, 1, 1}};
    return memcmp(&model->normalization, &plain, sizeof plain) == 0;
}

static cnn_status load_foreign(cnn_cli *cli, const char *path, cnn_model **model)
{
    cnn_normalization input;
    const char *normalize = cli->common.normalize;
    cnn_status status = normalize ? parse_normalize(normalize, &input) : CNN_OK;
    if (status == CNN_OK)
        status = cnn_onnx_load(path, normalize ? &input : NULL, model);
    if (status == CNN_OK && !normalize && is_plain(*model))
        cnn_message_notice(cli,
                           "%s does not say how pixels are normalized and gets them as they are, in [0,1]; "
                           "--normalize MEAN,DEVIATION says otherwise",
                           path);
    return status;
}

static cnn_status set_normalization(cnn_cli *cli, const char *path, cnn_model *model)
{
    cnn_normalization normalization = cnn_model_normalization(model);
    if (!cli->common.normalize) {
        cnn_message_notice(cli,
                           "%s does not say how pixels are normalized: (x - %g)/%g of x in [0,1] is taken; "
                           "--normalize MEAN,DEVIATION says otherwise",
                           path, (double)normalization.mean[0], (double)normalization.std[0]);
        return CNN_OK;
    }
    cnn_status status = parse_normalize(cli->common.normalize, &normalization);
    return status == CNN_OK ? cnn_model_set_normalization(model, &normalization) : status;
}

cnn_status cnn_cli_load_weights(cnn_cli *cli, const char *network, const char *path, cnn_model **model)
{
    cnn_status status = CNN_OK;
    cnn_model *made = NULL;
    CNN_TRY(cnn_model_create(network, &made));
    CNN_TRY(cnn_safetensors_load(path, made));
    CNN_TRY(set_normalization(cli, path, made));
    *model = made;
    made = NULL;
out:
    cnn_model_free(made);
    return status;
}

/* What a path without a network cannot be. */
static cnn_status check_ours(const cnn_cli *cli, const char *path)
{
    if (cnn_cli_is_weights(path))
        return cnn_error(
            CNN_ERR_USAGE,
            "%s holds weights without a network: make a model of it with 'cnn-opt --from-torch FILE --model "
            "NAME -o model.cnn'",
            path);
    if (cli->common.normalize)
        return cnn_error(CNN_ERR_USAGE, "%s says itself how it normalizes pixels: leave out --normalize", path);
    return CNN_OK;
}

cnn_status cnn_cli_load_model(cnn_cli *cli, const char *path, cnn_model **model)
{
    if (is_onnx(path))
        return load_foreign(cli, path, model);
    cnn_status status = check_ours(cli, path);
    if (status == CNN_OK)
        status = cnn_model_load(path, model);
    if (status == CNN_OK && (*model)->is_signed)
        cnn_message_notice(cli, "%s is signed (which was not checked); what is made of it is another model, and is not",
                           path);
    return status;
}

cnn_status cnn_cli_open_model(cnn_cli *cli, const char *path, cnn_model **model)
{
    if (is_onnx(path))
        return load_foreign(cli, path, model);
    cnn_status status = check_ours(cli, path);
    return status == CNN_OK ? cnn_model_open(path, model) : status;
}

cnn_status cnn_cli_save_model(const cnn_model *model, const char *path, cnn_pack pack, size_t *bytes)
{
    if (cnn_cli_is_weights(path))
        return cnn_safetensors_save(model, path, bytes);
    return is_onnx(path) ? cnn_onnx_save(model, path, bytes) : cnn_model_save_packed(model, path, pack, bytes);
}

cnn_status cnn_cli_load_saved(const char *path, cnn_model **model)
{
    return is_onnx(path) ? cnn_onnx_load(path, NULL, model) : cnn_model_load(path, model);
}
