/* Data sets for the tools: what --data names, or what a model was trained on. */
#include "cli/cli.h"
#include "cli/message.h"
#include "cli/progress.h"
#include "core/error.h"

#include <string.h>

/* What the callbacks of a load work with. */
typedef struct load_watch {
    cnn_cli *cli;
    cnn_progress progress;
} load_watch;

static void show_progress(void *context, int64_t done, int64_t all)
{
    load_watch *watch = context;
    if (!watch->progress.cli)
        cnn_progress_begin(&watch->progress, watch->cli, "read", (double)all, "pictures");
    cnn_progress_update(&watch->progress, (double)done, NULL);
}

static void show_warning(void *context, const char *sentence)
{
    cnn_message_warning(((load_watch *)context)->cli, "%s", sentence);
}

cnn_status cnn_cli_load_data(cnn_cli *cli, const char *name, cnn_subset subset, cnn_dataset **data)
{
    load_watch watch = {.cli = cli};
    const cnn_dataset_options options = {.dir = cli->common.data_dir,
                                         .fetch = true,
                                         .form = cli->form,
                                         .progress = show_progress,
                                         .warn = show_warning,
                                         .context = &watch};
    cnn_status status = cnn_dataset_load(name ? name : cli->common.data, subset, &options, data);
    if (watch.progress.cli)
        cnn_progress_end(&watch.progress);
    if (status == CNN_OK && strcmp((*data)->note, cli->note) != 0) {
        memcpy(cli->note, (*data)->note, sizeof cli->note);
        if (*cli->note)
            cnn_message_warning(cli, "%s", cli->note);
    }
    return status;
}

/* The name of the data that a model was trained on, where that is enough to find them. */
static cnn_status name_of_data(const cnn_model *model, const char *path, const char **name)
{
    cnn_dataset_id made_with = cnn_model_dataset(model);
    if (made_with == CNN_DATASET_PICTURES)
        return cnn_error(CNN_ERR_USAGE,
                         "%s was trained on pictures in folders, and does not say where they lie; name their folder "
                         "with --data png:DIR",
                         path);
    if (made_with == CNN_DATASET_NONE)
        return cnn_error(CNN_ERR_USAGE, "%s does not say which data it was trained on; name a data set with --data",
                         path);
    *name = cnn_dataset_name(made_with);
    return CNN_OK;
}

cnn_status cnn_cli_load_data_of(cnn_cli *cli, const cnn_model *model, const char *path, cnn_subset subset,
                                cnn_dataset **data)
{
    cnn_status status = CNN_OK;
    const char *name = cli->common.data;
    cnn_dataset *made = NULL;
    if (!name)
        CNN_TRY(name_of_data(model, path, &name));
    cli->form = cnn_model_form(model);
    CNN_TRY(cnn_cli_load_data(cli, name, subset, &made));
    status = cnn_model_check_data(model, made);
    if (status != CNN_OK)
        CNN_TRY(cnn_error_prefix(status, "%s with --data %s", path, name));
    *data = made;
    made = NULL;
out:
    cnn_dataset_free(made);
    return status;
}
