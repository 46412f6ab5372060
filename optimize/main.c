/* cnn-opt: makes a trained model small and fast. */
#include "optimize/job.h"

#include "core/error.h"
#include "core/sign.h"

static cnn_status run(cnn_cli *cli, opt_settings *settings)
{
    cnn_status status = CNN_OK;
    opt_account account = {0};
    CNN_TRY(opt_settings_check(cli, settings));
    if (settings->keygen || opt_only_signs(settings))
        return settings->keygen ? opt_keygen(cli, settings) : opt_sign(cli, settings);
    if (settings->sign) /* before the work, not behind it */
        CNN_TRY(cnn_secret_key_check(settings->sign));
    if (opt_converts(settings)) {
        CNN_TRY(opt_convert(cli, settings));
    } else {
        CNN_TRY(opt_run(cli, settings, &account));
        CNN_TRY(opt_report(cli, settings, &account));
        if (settings->report)
            CNN_TRY(opt_report_save(cli, settings, &account));
    }
    if (settings->sign)
        CNN_TRY(opt_sign(cli, settings));
out:
    opt_account_free(&account);
    return status;
}

int main(int argc, char **argv)
{
    opt_settings settings;
    cnn_cli cli;
    int code;
    opt_settings_init(&settings);
    if (!cnn_cli_begin(&cli, &opt_tool, &settings, argc, argv, &code))
        return code;
    return cnn_cli_end(&cli, run(&cli, &settings));
}
