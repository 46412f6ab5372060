/* What .cnn files say of a model beside its graph and its weights: names, data, normalization, scales (docs/format.md).
 */
#include "core/file_read.h"

#include "core/class_names.h"
#include "core/error.h"
#include "core/memory.h"

#include <string.h>

/* Text that goes to a terminal: no control characters but newline and tab. */
static void check_text(cnn_reader *r, const uint8_t *text, size_t length)
{
    for (size_t i = 0; text && i < length; i++)
        if ((text[i] < 0x20 && text[i] != '\n' && text[i] != '\t') || text[i] == 0x7F)
            cnn_reader_fail(r, "a text field holds the control character 0x%02X", text[i]);
}

static cnn_status read_texts(cnn_reader field[CNN_TAG_COUNT], cnn_model *model)
{
    cnn_reader *name = &field[CNN_TAG_NAME], *text = &field[CNN_TAG_TEXT];
    if (name->data) {
        size_t length = name->end - name->at;
        const uint8_t *bytes = cnn_reader_take(name, length, "the model's name");
        check_text(name, bytes, length);
        if (length >= CNN_NAME_BYTES)
            cnn_reader_fail(name, "the model's name is longer than %d bytes", CNN_NAME_BYTES - 1);
        if (name->failed)
            return CNN_ERR_FORMAT;
        memcpy(model->name, bytes, length);
    }
    if (text->data) {
        size_t length = text->end - text->at;
        const uint8_t *bytes = cnn_reader_take(text, length, "the free text");
        check_text(text, bytes, length);
        if (length > CNN_FILE_MAX_TEXT)
            cnn_reader_fail(text, "the free text is longer than %d bytes", CNN_FILE_MAX_TEXT);
        if (text->failed)
            return CNN_ERR_FORMAT;
        model->text = cnn_calloc(length + 1, 1);
        if (!model->text)
            return CNN_ERR_MEMORY;
        memcpy(model->text, bytes, length);
    }
    return CNN_OK;
}

/* One name for each output of the last layer. */
static cnn_status read_class_names(cnn_reader *r, cnn_model *model)
{
    int32_t classes = cnn_model_output(model).c;
    char *text;
    if (!r->data)
        return CNN_OK;
    if (classes > CNN_MAX_CLASSES)
        cnn_reader_fail(r, "the file names classes, but the model has %d outputs; at most %d can have names", classes,
                        CNN_MAX_CLASSES);
    if (r->failed)
        return CNN_ERR_FORMAT;
    model->class_names = cnn_class_names_alloc(classes, r->end - r->at, &text); /* a length takes a NUL's byte */
    if (!model->class_names)
        return CNN_ERR_MEMORY;
    for (int32_t i = 0; i < classes; i++) {
        size_t length = (size_t)cnn_reader_varint(r, CNN_CLASS_NAME_BYTES, "the length of a class's name");
        const uint8_t *bytes = cnn_reader_take(r, length, "a class's name");
        if (!bytes)
            return CNN_ERR_FORMAT;
        model->class_names[i] = memcpy(text, bytes, length);
        text += length + 1;
        const char *problem = strlen(model->class_names[i]) < length ? "holds a zero byte"
                                                                     : cnn_class_name_problem(model->class_names[i]);
        if (problem)
            cnn_reader_fail(r, "the name of class %d %s", i, problem);
    }
    return cnn_reader_finish(r, "the field of class names");
}

static cnn_status read_preparation(cnn_reader *r, cnn_preparation *preparation)
{
    if (!r->data)
        return CNN_OK;
    uint64_t id = cnn_reader_varint(r, UINT64_MAX, "the preparation of pictures");
    if (!r->failed && (id == CNN_PREPARE_UNKNOWN || id > CNN_PREPARE_RESIZE))
        cnn_reader_fail(r,
                        "pictures are prepared in the way %llu, which cnnkit %s does not know; install a newer cnnkit",
                        (unsigned long long)id, cnn_version());
    *preparation = (cnn_preparation)id;
    return cnn_reader_finish(r, "the preparation of pictures");
}

static cnn_status read_augmentation(cnn_reader *r, cnn_model *model)
{
    if (!r->data)
        return CNN_OK;
    model->augment = cnn_reader_f64(r, "the share of augmented images");
    if (!r->failed && !(model->augment > 0 && model->augment <= 1))
        cnn_reader_fail(r, "a share of %g of the images is augmented; it must be above 0 and at most 1",
                        model->augment);
    if (r->failed)
        return CNN_ERR_FORMAT;
    const size_t length = r->end - r->at;
    const uint8_t *kinds = cnn_reader_take(r, length, "the kinds of augmentation");
    check_text(r, kinds, length);
    if (length >= CNN_AUGMENTATION_BYTES)
        cnn_reader_fail(r, "the kinds of augmentation are longer than %d bytes", CNN_AUGMENTATION_BYTES - 1);
    if (!r->failed)
        memcpy(model->augmentation, kinds, length);
    return cnn_reader_finish(r, "the augmentation");
}

/* What ends the network behind the last layer: 1, a softmax. */
static cnn_status read_softmax(cnn_reader *r, bool *softmax)
{
    if (!r->data)
        return CNN_OK;
    uint64_t id = cnn_reader_varint(r, UINT64_MAX, "what ends the network");
    if (!r->failed && id != 1)
        cnn_reader_fail(r, "its network ends in the way %llu, which cnnkit %s does not know; install a newer cnnkit",
                        (unsigned long long)id, cnn_version());
    *softmax = true;
    return cnn_reader_finish(r, "what ends the network");
}

static cnn_status read_normalization(cnn_reader *r, cnn_normalization *normalization)
{
    if (!r->data)
        return CNN_OK;
    uint64_t id = cnn_reader_varint(r, UINT64_MAX, "the normalization");
    if (!r->failed && id > CNN_NORMALIZATION_HALF)
        cnn_reader_fail(r, "normalization %llu is not known to cnnkit %s; install a newer cnnkit",
                        (unsigned long long)id, cnn_version());
    if (id == CNN_NORMALIZATION_CUSTOM) {
        uint64_t count = cnn_reader_varint(r, 4, "the number of normalized channels");
        if (!r->failed && count == 0)
            cnn_reader_fail(r, "the normalization has no channel");
        for (uint64_t c = 0; c < 4 && !r->failed; c++) {
            normalization->mean[c] = c < count ? cnn_reader_f32(r, "a mean") : normalization->mean[count - 1];
            normalization->std[c] = c < count ? cnn_reader_f32(r, "a deviation") : normalization->std[count - 1];
        }
    }
    return cnn_reader_finish(r, "the normalization");
}

static cnn_status read_out_scales(cnn_reader *r, cnn_model *model)
{
    if (!r->data)
        return CNN_OK;
    for (int i = 0; i < model->node_count && !r->failed; i++) {
        cnn_node *node = &model->nodes[i];
        uint64_t code = cnn_reader_varint(r, UINT64_MAX, "the scale of a layer's output");
        if (code == CNN_SCALE_F32)
            node->out_scale = cnn_reader_f32(r, "the scale of a layer's output");
        else if (code == CNN_SCALE_AS_INPUT && node->input_count > 0)
            node->out_scale = model->nodes[node->input[0]].out_scale;
        else if (code != CNN_SCALE_NONE)
            cnn_reader_fail(r, "the scale of layer '%s' is coded as %llu, which cnnkit %s does not know", node->name,
                            (unsigned long long)code, cnn_version());
    }
    return cnn_reader_finish(r, "the field of scales");
}

cnn_status cnn_file_read_facts(cnn_reader field[CNN_TAG_COUNT], cnn_model *model)
{
    cnn_status status = CNN_OK;
    cnn_reader *dataset = &field[CNN_TAG_DATASET], *seed = &field[CNN_TAG_SPLIT_SEED];
    CNN_TRY(read_texts(field, model));
    if (dataset->data) {
        uint64_t id = cnn_reader_varint(dataset, INT32_MAX, "the data set");
        if (!dataset->failed && !cnn_dataset_name((cnn_dataset_id)id))
            cnn_reader_fail(dataset,
                            "was trained on data set %llu, which cnnkit %s does not know; install a newer cnnkit",
                            (unsigned long long)id, cnn_version());
        model->dataset = (cnn_dataset_id)id;
        CNN_TRY(cnn_reader_finish(dataset, "the data set"));
    }
    if (seed->data) {
        model->split_seed = cnn_reader_varint(seed, UINT64_MAX, "the split seed");
        CNN_TRY(cnn_reader_finish(seed, "the split seed"));
    }
    CNN_TRY(read_class_names(&field[CNN_TAG_CLASS_NAMES], model));
    CNN_TRY(read_preparation(&field[CNN_TAG_PREPARATION], &model->preparation));
    CNN_TRY(read_augmentation(&field[CNN_TAG_AUGMENTATION], model));
    CNN_TRY(read_softmax(&field[CNN_TAG_SOFTMAX], &model->softmax));
    CNN_TRY(read_normalization(&field[CNN_TAG_NORMALIZATION], &model->normalization));
    CNN_TRY(read_out_scales(&field[CNN_TAG_OUT_SCALES], model));
out:
    return status;
}
