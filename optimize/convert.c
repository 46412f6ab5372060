/* Changing the kind of a model's file and nothing else: no data, no passes, no measurement. INT8 models too. */
#include "optimize/job.h"

#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/model_files.h"
#include "cli/units.h"
#include "core/error.h"
#include "core/model.h"

#include <stdio.h>

bool opt_converts(const opt_settings *settings)
{
    const bool passes = opt_prunes(settings) || settings->int8 || opt_has_goal(settings) || settings->finetune > 0;
    return !passes && (cnn_cli_is_foreign(settings->input) || cnn_cli_is_foreign(settings->output));
}

static void print_result(const cnn_cli *cli, const opt_settings *settings, const cnn_model *model, size_t bytes)
{
    char size[CNN_UNIT_BYTES], weights[CNN_UNIT_BYTES];
    if (cli->common.json) {
        cnn_json json;
        cnn_json_begin(&json, stdout);
        cnn_json_string(&json, "output", settings->output);
        cnn_json_integer(&json, "file_bytes", (int64_t)bytes);
        cnn_json_integer(&json, "weights", cnn_model_weight_count(model));
        cnn_json_integer(&json, "macs", cnn_model_macs(model));
        cnn_json_bool(&json, "int8", cnn_model_is_quantized(model));
        cnn_json_end(&json);
    } else {
        printf("%s: %s as %s, %s weights, %s\n", settings->output, settings->input,
               cnn_model_is_quantized(model) ? "INT8" : "FP32",
               cnn_format_count(weights, cnn_model_weight_count(model)), cnn_format_bytes(size, (int64_t)bytes));
    }
}

/* With --data the model knows from now on what it was trained on. */
static cnn_status note_data(cnn_cli *cli, const opt_settings *settings, cnn_model *model)
{
    cnn_status status = CNN_OK;
    cnn_dataset *data = NULL;
    if (model->dataset != CNN_DATASET_NONE)
        CNN_FAIL(CNN_ERR_USAGE, "%s says itself which data it was trained on: leave out --data", settings->input);
    CNN_TRY(cnn_cli_load_data_of(cli, model, settings->input, CNN_SUBSET_TRAIN, &data));
    CNN_TRY(cnn_model_set_data(model, data));
out:
    cnn_dataset_free(data);
    return status;
}

cnn_status opt_convert(cnn_cli *cli, const opt_settings *settings)
{
    cnn_status status = CNN_OK;
    cnn_model *model = NULL;
    size_t bytes;
    CNN_TRY(opt_load(cli, settings, &model));
    if (cli->common.data)
        CNN_TRY(note_data(cli, settings, model));
    cnn_interrupt_hold(NULL); /* Ctrl-C now would leave a temporary file */
    status = cnn_cli_save_model(model, settings->output, (cnn_pack)settings->pack, &bytes);
    cnn_interrupt_release();
    if (status == CNN_OK)
        print_result(cli, settings, model, bytes);
out:
    cnn_model_free(model);
    return status;
}
