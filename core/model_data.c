/* Models and data: what a model notes of the data it was trained on, and whether other data suit it. */
#include "core/class_names.h"
#include "core/error.h"
#include "core/model.h"
#include "core/picture.h"

#include <stdlib.h>
#include <string.h>

cnn_status cnn_model_set_data(cnn_model *model, const cnn_dataset *data)
{
    char **names = NULL;
    if (data->class_names && !(names = cnn_class_names_copy(data->class_names, data->classes)))
        return CNN_ERR_MEMORY;
    free(model->class_names);
    model->class_names = names;
    model->dataset = data->id;
    model->preparation = data->preparation;
    return CNN_OK;
}

void cnn_model_normalize_for(cnn_model *model, cnn_dataset_id id)
{
    model->normalization = *cnn_dataset_normalization(id);
}

cnn_dataset_id cnn_model_dataset(const cnn_model *model)
{
    return model->dataset;
}

cnn_status cnn_model_split(const cnn_model *model, const cnn_dataset *data, cnn_split *split)
{
    return cnn_dataset_split(data, model->split_seed, split);
}

cnn_normalization cnn_model_normalization(const cnn_model *model)
{
    return model->normalization;
}

cnn_status cnn_model_set_normalization(cnn_model *model, const cnn_normalization *normalization)
{
    if (cnn_model_is_quantized(model))
        return cnn_error(CNN_ERR_UNSUPPORTED, "an INT8 model's numbers depend on how pixels are normalized: set that "
                                              "before it is quantized");
    cnn_status status = cnn_normalization_check(normalization);
    if (status == CNN_OK)
        model->normalization = *normalization;
    return status;
}

const char *cnn_model_class_name(const cnn_model *model, int label)
{
    if (!model->class_names)
        return cnn_dataset_class_name(model->dataset, label);
    return label >= 0 && label < cnn_model_output(model).c ? model->class_names[label] : NULL;
}

cnn_image_form cnn_model_form(const cnn_model *model)
{
    cnn_tensor_desc in = cnn_model_input(model);
    cnn_image_form form = {.height = in.h, .width = in.w, .channels = in.c, .preparation = model->preparation};
    bool digit_sized = in.h == CNN_DIGIT_SIDE && in.w == CNN_DIGIT_SIDE && in.c == 1;
    if (form.preparation == CNN_PREPARE_UNKNOWN)
        form.preparation = model->dataset == CNN_DATASET_MNIST && digit_sized ? CNN_PREPARE_DIGIT : CNN_PREPARE_RESIZE;
    return form;
}

/* The names of known data sets are not compared: there a user may well try a model on another one. */
static cnn_status check_class_names(const cnn_model *model, const cnn_dataset *data)
{
    if (!model->class_names && !data->class_names)
        return CNN_OK;
    for (int label = 0; label < data->classes; label++) {
        const char *ours = cnn_model_class_name(model, label);
        const char *theirs = cnn_dataset_label_name(data, label);
        if (ours && theirs && strcmp(ours, theirs) != 0)
            return cnn_error(CNN_ERR_SHAPE,
                             "its class %d is '%s', but that of the data is '%s'; name the data that it was trained on",
                             label, ours, theirs);
    }
    return CNN_OK;
}

cnn_status cnn_model_check_data(const cnn_model *model, const cnn_dataset *data)
{
    cnn_tensor_desc in = cnn_model_input(model);
    int32_t classes = cnn_model_output(model).c;
    if (data->height != in.h || data->width != in.w || data->channels != in.c)
        return cnn_error(CNN_ERR_SHAPE,
                         "it reads images of %dx%dx%d (height, width, channels), but those of the data are %dx%dx%d; "
                         "choose other data, or a model made for these",
                         in.h, in.w, in.c, data->height, data->width, data->channels);
    if (data->classes != classes)
        return cnn_error(CNN_ERR_SHAPE,
                         "it tells %d classes apart, but the data has %d; choose other data, or a model made for these",
                         classes, data->classes);
    if (model->preparation != CNN_PREPARE_UNKNOWN && data->preparation != CNN_PREPARE_UNKNOWN &&
        model->preparation != data->preparation)
        return cnn_error(CNN_ERR_SHAPE, "it reads pictures %s, but those of the data were %s; prepare both alike",
                         model->preparation == CNN_PREPARE_DIGIT ? "prepared as digits" : "that were resized",
                         data->preparation == CNN_PREPARE_DIGIT ? "prepared as digits" : "resized");
    return check_class_names(model, data);
}
