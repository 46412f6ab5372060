/* Notes of an ONNX file: the data set, names of classes, preparation of pictures, the split. */
#include "onnx/notes.h"

#include "core/class_names.h"
#include "core/error.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_NOTES = 8 };

static const char *const preparations[] = {NULL, "digit", "resize"}; /* in the order of cnn_preparation */

static void put_note(cnn_onnx_export *export, cnn_onnx_file *file, const char *key, char *value)
{
    cnn_onnx_entry *note = cnn_onnx_alloc(&export->memory, 1, sizeof *note);
    if (!note || !file->note)
        return;
    cnn_onnx__entry__init(note);
    note->key = (char *)(uintptr_t)key;
    note->value = value;
    file->note[file->n_note++] = note;
}

/* The names of all classes, a line each; NULL when they have none. */
static char *list_classes(cnn_onnx_export *export)
{
    const int32_t classes = cnn_model_output(export->model).c;
    size_t bytes = 1;
    for (int32_t i = 0; i < classes; i++) {
        const char *name = cnn_model_class_name(export->model, i);
        if (!name)
            return NULL;
        bytes += strlen(name) + 1;
    }
    char *list = cnn_onnx_alloc(&export->memory, bytes, 1), *at = list;
    for (int32_t i = 0; list && i < classes; i++) {
        const char *name = cnn_model_class_name(export->model, i);
        if (i > 0)
            *at++ = '\n';
        memcpy(at, name, strlen(name));
        at += strlen(name);
    }
    return list;
}

cnn_status cnn_onnx_write_notes(cnn_onnx_export *export, cnn_onnx_file *file)
{
    const cnn_model *model = export->model;
    const char *dataset = model->dataset != CNN_DATASET_NONE ? cnn_dataset_name(model->dataset) : NULL;
    cnn_onnx_memory *memory = &export->memory;
    file->note = cnn_onnx_alloc(memory, MOST_NOTES, sizeof *file->note);
    put_note(export, file, CNN_ONNX_NOTE_INPUT,
             cnn_onnx_text(memory,
                           "pixels in [0,1] (bytes divided by 255), [N,%s,height,width]; the graph normalizes them",
                           cnn_model_input(model).c == 1 ? "1" : "channels"));
    if (dataset)
        put_note(export, file, CNN_ONNX_NOTE_DATASET, cnn_onnx_text(memory, "%s", dataset));
    char *classes = list_classes(export);
    if (classes)
        put_note(export, file, CNN_ONNX_NOTE_CLASSES, classes);
    if (model->preparation != CNN_PREPARE_UNKNOWN)
        put_note(export, file, CNN_ONNX_NOTE_PREPARATION,
                 cnn_onnx_text(memory, "%s", preparations[model->preparation]));
    if (model->augment > 0)
        put_note(export, file, CNN_ONNX_NOTE_AUGMENTATION,
                 cnn_onnx_text(memory, "%.17g %s", model->augment, model->augmentation));
    if (model->split_seed != CNN_SPLIT_SEED)
        put_note(export, file, CNN_ONNX_NOTE_SPLIT_SEED,
                 cnn_onnx_text(memory, "%llu", (unsigned long long)model->split_seed));
    return memory->failed ? CNN_ERR_MEMORY : CNN_OK;
}

/* ---- Reading ---- */

static const char *find_note(const cnn_onnx_file *file, const char *key)
{
    for (size_t i = 0; i < file->n_note; i++)
        if (file->note[i]->key && file->note[i]->value && strcmp(file->note[i]->key, key) == 0)
            return file->note[i]->value;
    return NULL;
}

static cnn_status refuse_note(const char *key, const char *value)
{
    char shown[96];
    return cnn_error(CNN_ERR_FORMAT, "its note %s is '%s', which cnnkit %s does not know", key,
                     cnn_onnx_shown(value, shown), cnn_version());
}

static cnn_status read_dataset(const char *name, cnn_model *model)
{
    if (!name)
        return CNN_OK;
    for (int id = CNN_DATASET_NONE + 1; id <= CNN_DATASET_PICTURES; id++) {
        const char *known = cnn_dataset_name((cnn_dataset_id)id);
        if (known && strcmp(known, name) == 0) {
            model->dataset = (cnn_dataset_id)id;
            return CNN_OK;
        }
    }
    return refuse_note(CNN_ONNX_NOTE_DATASET, name);
}

/* Names that are those of the data set are not the model's own. */
static bool are_standard(char *const *names, int32_t count, cnn_dataset_id dataset)
{
    for (int32_t i = 0; i < count; i++) {
        const char *standard = cnn_dataset_class_name(dataset, i);
        if (!standard || strcmp(standard, names[i]) != 0)
            return false;
    }
    return true;
}

static cnn_status read_classes(const char *list, cnn_model *model)
{
    const int32_t classes = cnn_model_output(model).c;
    char *text;
    int32_t lines = 1;
    if (!list)
        return CNN_OK;
    for (const char *c = list; *c; c++)
        lines += *c == '\n' && lines <= CNN_MAX_CLASSES;
    if (lines != classes || classes > CNN_MAX_CLASSES)
        return cnn_error(CNN_ERR_FORMAT, "its note %s does not name %d classes", CNN_ONNX_NOTE_CLASSES, classes);
    char **names = cnn_class_names_alloc(classes, strlen(list) + 1, &text);
    if (!names)
        return CNN_ERR_MEMORY;
    strcpy(text, list);
    for (int32_t i = 0; i < classes; i++) {
        const size_t length = strcspn(text, "\n");
        names[i] = text;
        text[length] = '\0';
        text += length + 1;
    }
    if (are_standard(names, classes, model->dataset))
        free(names);
    else
        model->class_names = names; /* cnn_model_check looks at them */
    return CNN_OK;
}

static cnn_status read_preparation(const char *name, cnn_model *model)
{
    if (!name)
        return CNN_OK;
    for (int i = CNN_PREPARE_DIGIT; i <= CNN_PREPARE_RESIZE; i++)
        if (strcmp(preparations[i], name) == 0) {
            model->preparation = (cnn_preparation)i;
            return CNN_OK;
        }
    return refuse_note(CNN_ONNX_NOTE_PREPARATION, name);
}

static cnn_status read_augmentation(const char *text, cnn_model *model)
{
    char *kinds;
    if (!text)
        return CNN_OK;
    const double share = strtod(text, &kinds);
    bool good = kinds > text && *kinds == ' ' && share > 0 && share <= 1 && strlen(kinds + 1) < CNN_AUGMENTATION_BYTES;
    for (const char *c = kinds; good && *c; c++)
        good = *c >= 0x20 && *c < 0x7F;
    if (!good)
        return refuse_note(CNN_ONNX_NOTE_AUGMENTATION, text);
    model->augment = share;
    strcpy(model->augmentation, kinds + 1);
    return CNN_OK;
}

static cnn_status read_split_seed(const char *text, cnn_model *model)
{
    char *end;
    if (!text)
        return CNN_OK;
    model->split_seed = strtoull(text, &end, 10);
    return *text && !*end ? CNN_OK : refuse_note(CNN_ONNX_NOTE_SPLIT_SEED, text);
}

cnn_status cnn_onnx_read_notes(const cnn_onnx_file *file, cnn_model *model)
{
    cnn_status status = CNN_OK;
    CNN_TRY(read_dataset(find_note(file, CNN_ONNX_NOTE_DATASET), model));
    CNN_TRY(read_classes(find_note(file, CNN_ONNX_NOTE_CLASSES), model));
    CNN_TRY(read_preparation(find_note(file, CNN_ONNX_NOTE_PREPARATION), model));
    CNN_TRY(read_augmentation(find_note(file, CNN_ONNX_NOTE_AUGMENTATION), model));
    CNN_TRY(read_split_seed(find_note(file, CNN_ONNX_NOTE_SPLIT_SEED), model));
out:
    return status;
}
