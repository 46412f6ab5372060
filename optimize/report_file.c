/* Writing a report: its form is that of the name's ending. */
#include "optimize/facts.h"

#include "cli/interrupt.h"
#include "cli/message.h"
#include "cli/units.h"
#include "core/error.h"
#include "core/save.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool ends_in(const char *path, const char *ending)
{
    size_t length = strlen(path), bytes = strlen(ending);
    return length > bytes && strcasecmp(path + length - bytes, ending) == 0;
}

bool opt_report_is_json(const char *path)
{
    return ends_in(path, ".json");
}

bool opt_report_is_html(const char *path)
{
    return ends_in(path, ".html");
}

static cnn_status write_json(const opt_settings *settings, const opt_account *account, char **data, size_t *bytes)
{
    FILE *out = open_memstream(data, bytes);
    if (!out)
        return cnn_error(CNN_ERR_MEMORY, "out of memory: the report needs some");
    cnn_status status = opt_report_json(settings, account, out);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed)
        return cnn_error(CNN_ERR_MEMORY, "out of memory: the report needs some");
    return status;
}

static cnn_status write_html(const opt_settings *settings, const opt_account *account, char **data, size_t *bytes)
{
    cnn_text text = {0};
    cnn_status status = opt_report_html(settings, account, &text);
    *data = text.data;
    *bytes = text.length;
    return status;
}

cnn_status opt_report_save(cnn_cli *cli, const opt_settings *settings, const opt_account *account)
{
    cnn_status status = CNN_OK;
    char *data = NULL, size[CNN_UNIT_BYTES];
    size_t bytes = 0;
    CNN_TRY((opt_report_is_json(settings->report) ? write_json : write_html)(settings, account, &data, &bytes));
    cnn_interrupt_hold(NULL); /* Ctrl-C now would leave a temporary file */
    status = cnn_save_file(settings->report, data, bytes);
    cnn_interrupt_release();
    if (status == CNN_OK)
        cnn_message_notice(cli, "report: %s, %s", settings->report, cnn_format_bytes(size, (int64_t)bytes));
out:
    free(data);
    return status;
}
