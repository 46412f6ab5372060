/* Keys and signatures (cnn/sign.h). */
#include "optimize/job.h"

#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cnn/sign.h"

#include <stdio.h>

cnn_status opt_keygen(const cnn_cli *cli, const opt_settings *settings)
{
    const cnn_status status = cnn_key_create(settings->keygen);
    if (status != CNN_OK)
        return status;
    if (cli->common.json) {
        cnn_json json;
        cnn_json_begin(&json, stdout);
        cnn_json_string(&json, "key", settings->keygen);
        cnn_json_end(&json);
    } else {
        printf("%s.key signs models: keep it secret. %s.pub is for those who check them\n", settings->keygen,
               settings->keygen);
    }
    return CNN_OK;
}

bool opt_only_signs(const opt_settings *settings)
{
    const bool passes = opt_prunes(settings) || settings->int8 || opt_has_goal(settings) || settings->finetune > 0;
    return settings->sign && !passes && !opt_converts(settings);
}

cnn_status opt_sign(cnn_cli *cli, const opt_settings *settings)
{
    const bool alone = opt_only_signs(settings);
    size_t bytes;
    cnn_interrupt_hold(NULL); /* Ctrl-C now would leave a temporary file */
    const cnn_status status =
        cnn_model_sign(alone ? settings->input : settings->output, settings->sign, settings->output, &bytes);
    cnn_interrupt_release();
    if (status != CNN_OK)
        return status;
    if (!alone) {
        cnn_message_notice(cli, "%s is signed with %s", settings->output, settings->sign);
    } else if (cli->common.json) {
        cnn_json json;
        cnn_json_begin(&json, stdout);
        cnn_json_string(&json, "output", settings->output);
        cnn_json_integer(&json, "file_bytes", (int64_t)bytes);
        cnn_json_end(&json);
    } else {
        printf("%s: %s, signed with %s\n", settings->output, settings->input, settings->sign);
    }
    return CNN_OK;
}
