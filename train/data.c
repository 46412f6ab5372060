/* The data that cnn-train works on, and the network made to fit them.
 *
 * A network of somebody's own says which images it reads: pictures are made into those, and other data are refused with
 * the numbers to write. A built-in network is made for what the data are. */
#include "cli/message.h"
#include "core/cfg.h"
#include "core/error.h"
#include "core/layers.h"
#include "train/tool.h"

#include <stdio.h>
#include <string.h>

enum { MAX_IMAGE_SIDE = 4096 };

/* "32" or "24x48" (height x width). */
static cnn_status parse_image_size(const char *text, cnn_image_form *form)
{
    int height, width, used = 0;
    bool one = sscanf(text, "%5d%n", &height, &used) == 1 && !text[used];
    if (one)
        width = height;
    else if (sscanf(text, "%5dx%5d%n", &height, &width, &used) != 2 || text[used])
        height = width = 0;
    if (height < 1 || width < 1 || height > MAX_IMAGE_SIDE || width > MAX_IMAGE_SIDE)
        return cnn_error(CNN_ERR_USAGE,
                         "option --image-size: '%.40s' is no size; give pixels from 1 to %d, such as 32, or 24x48 "
                         "(height x width)",
                         text, MAX_IMAGE_SIDE);
    form->height = height;
    form->width = width;
    return CNN_OK;
}

/* What pictures are to be made into as far as the options say. */
static cnn_status form_of_options(const train_run *run, cnn_image_form *form)
{
    const train_settings *set = run->set;
    const char *data = run->cli->common.data;
    *form = (cnn_image_form){0};
    if ((set->image_size || set->prepare != TRAIN_NOT_GIVEN) && (!data || strncmp(data, "png:", 4) != 0))
        return cnn_error(CNN_ERR_USAGE, "--%s is for pictures in folders: give --data png:DIR with it",
                         set->image_size ? "image-size" : "prepare");
    if (set->prepare != TRAIN_NOT_GIVEN)
        form->preparation = (cnn_preparation)(set->prepare + CNN_PREPARE_DIGIT);
    return set->image_size ? parse_image_size(set->image_size, form) : CNN_OK;
}

/* The form that a network of fixed input asks for. */
static cnn_status form_of_model(const train_run *run, cnn_image_form *form)
{
    const cnn_image_form wanted = *form, fixed = cnn_model_form(run->model);
    if (wanted.height && (wanted.height != fixed.height || wanted.width != fixed.width))
        return cnn_error(
            CNN_ERR_USAGE,
            "--image-size %s: %s reads images of %dx%d; leave the option out, or write height=%d, width=%d "
            "into its input layer",
            run->set->image_size, train_network(run->set), fixed.height, fixed.width, wanted.height, wanted.width);
    *form = fixed;
    if (wanted.preparation != CNN_PREPARE_UNKNOWN)
        form->preparation = wanted.preparation;
    return CNN_OK;
}

static bool reads(const cnn_model *model, const cnn_dataset *data)
{
    cnn_tensor_desc in = cnn_model_input(model);
    return in.h == data->height && in.w == data->width && in.c == data->channels;
}

static bool suits(const cnn_model *model, const cnn_dataset *data)
{
    return reads(model, data) && cnn_model_output(model).c == data->classes;
}

/* What to write into a description so that it suits the data. */
static cnn_status refuse(const train_run *run, const cnn_dataset *data)
{
    const cnn_model *model = run->model;
    const cnn_node *last = &model->nodes[model->node_count - 1];
    cnn_tensor_desc in = cnn_model_input(model);
    if (in.h != data->height || in.w != data->width || in.c != data->channels)
        return cnn_error(CNN_ERR_SHAPE,
                         "%s: its input is %dx%dx%d (height, width, channels), but the images are %dx%dx%d: write %s = "
                         "input(height=%d, width=%d, channels=%d)",
                         train_network(run->set), in.h, in.w, in.c, data->height, data->width, data->channels,
                         model->nodes[0].name, data->height, data->width, data->channels);
    return cnn_error(CNN_ERR_SHAPE,
                     "%s: its last layer, '%s', has %d outputs, but the data has %d classes: write out=%d",
                     train_network(run->set), last->name, last->out.c, data->classes, data->classes);
}

static cnn_status adapt(const train_run *run, const cnn_dataset *data)
{
    const cnn_image_form form = {.height = data->height, .width = data->width, .channels = data->channels};
    cnn_status status = cnn_model_adapt(run->model, &form, data->classes);
    if (status != CNN_OK)
        return cnn_error_prefix(status, "images of %dx%dx%d are not for this network", form.height, form.width,
                                form.channels);
    cnn_message_notice(run->cli, "%s is made for these data: input %dx%dx%d (height, width, channels), %d outputs",
                       train_network(run->set), form.height, form.width, form.channels, data->classes);
    return CNN_OK;
}

/* What --data says, else the data of --init, else what *name holds. */
static cnn_status choose_data(const train_run *run, const char **name)
{
    const cnn_dataset_id made_with = run->init ? cnn_model_dataset(run->init) : CNN_DATASET_NONE;
    if (run->cli->common.data)
        *name = run->cli->common.data;
    else if (made_with == CNN_DATASET_PICTURES)
        return cnn_error(CNN_ERR_USAGE,
                         "--init %s: it was trained on pictures in folders, and does not say where they lie; name the "
                         "folder to train on with --data png:DIR",
                         run->set->init);
    else if (made_with != CNN_DATASET_NONE)
        *name = cnn_dataset_name(made_with);
    return CNN_OK;
}

cnn_status train_load_data(train_run *run, cnn_dataset **data, cnn_dataset **test)
{
    cnn_status status = CNN_OK;
    size_t length;
    cnn_cli *cli = run->cli;
    const char *name = "mnist";
    bool fixed = cnn_builtin_cfg(train_network(run->set), &length) == NULL;
    CNN_TRY(choose_data(run, &name));
    CNN_TRY(form_of_options(run, &cli->form));
    if (fixed)
        CNN_TRY(form_of_model(run, &cli->form));
    CNN_TRY(cnn_cli_load_data(cli, name, CNN_SUBSET_TRAIN, data));
    const bool new_head = train_starts_as(run->set) && reads(run->model, *data);
    if (!suits(run->model, *data))
        CNN_TRY(fixed && !new_head ? refuse(run, *data) : adapt(run, *data));
    cli->form.channels = (*data)->channels; /* not to be decided anew by the pictures of the test set */
    CNN_TRY(cnn_cli_load_data(cli, name, CNN_SUBSET_TEST, test));
out:
    return status;
}
