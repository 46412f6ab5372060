/* Which kinds of augmentation there are, what suits a data set, and lists of them as text. */
#include "train/augment_kinds.h"

#include "core/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cnn_augment_info kinds[CNN_AUGMENT_KINDS] = {
    [CNN_AUGMENT_FLIP] = {"flip", "share of images", 0.5, 1, false, cnn_augment_flip},
    [CNN_AUGMENT_SCALE] = {"scale", "share of the size", 0.12, 0.5, false, cnn_augment_scale},
    [CNN_AUGMENT_SHEAR] = {"shear", "pixels a row", 0.1, 1, false, cnn_augment_shear},
    [CNN_AUGMENT_ROTATE] = {"rotate", "degrees", 12, 180, false, cnn_augment_rotate},
    [CNN_AUGMENT_SHIFT] = {"shift", "pixels", 1.5, 64, false, cnn_augment_shift},
    [CNN_AUGMENT_CROP] = {"crop", "pixels of padding", 4, 64, true, cnn_augment_crop},
    [CNN_AUGMENT_ELASTIC] = {"elastic", "pixels, root mean square", 0.7, 8, false, cnn_augment_elastic},
    [CNN_AUGMENT_STROKE] = {"stroke", "pixels of width", 1, 4, false, cnn_augment_stroke},
    [CNN_AUGMENT_SERIF] = {"serif", "share of images", 0.5, 1, false, cnn_augment_serifs},
    [CNN_AUGMENT_BLUR] = {"blur", "share of smoothing or sharpening", 0.5, 1, false, cnn_augment_blur},
    [CNN_AUGMENT_CONTRAST] = {"contrast", "share of the brightness", 0.2, 0.9, false, cnn_augment_contrast},
    [CNN_AUGMENT_CUTOUT] = {"cutout", "pixels of a side", 8, 256, true, cnn_augment_cutout},
};

const cnn_augment_info *cnn_augment_kind_info(cnn_augment_kind kind)
{
    return &kinds[kind];
}

/* ---- What suits a data set ---- */

static int find_class(const cnn_dataset *data, const char *wanted)
{
    for (int label = 0; label < data->classes; label++) {
        const char *name = cnn_dataset_label_name(data, label);
        if (name && strcmp(name, wanted) == 0)
            return label;
    }
    return -1;
}

/* Whether images are bright drawings on black. */
static bool black_around(const cnn_dataset *data)
{
    return data->id == CNN_DATASET_MNIST || data->id == CNN_DATASET_FASHION_MNIST || data->id == CNN_DATASET_SYNTH ||
           data->preparation == CNN_PREPARE_DIGIT;
}

static bool takes_serifs(const cnn_dataset *data, const cnn_augment_recipe *recipe)
{
    return recipe->one >= 0 && recipe->seven >= 0 && !recipe->mirror && data->channels == 1;
}

/* Digits keep their side: mirrored ones are other signs, and so may be small gray pictures that we know nothing of. */
static const char *standard_list(const cnn_dataset *data, const cnn_augment_recipe *recipe)
{
    if (takes_serifs(data, recipe))
        return "shift,rotate,scale,shear,elastic,stroke,serif";
    if (data->id == CNN_DATASET_FASHION_MNIST)
        return "crop=2,flip";
    return data->channels == 1 ? "shift,rotate,scale" : "crop,flip";
}

/* ---- Lists ---- */

static cnn_status unknown_kind(const char *name, size_t length)
{
    char known[256] = "";
    size_t used = 0;
    for (int kind = 0; kind < CNN_AUGMENT_KINDS && used < sizeof known; kind++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", kind ? ", " : "", kinds[kind].name);
    if (length == 0)
        return cnn_error(CNN_ERR_USAGE, "a kind of augmentation is missing in the list; there are %s", known);
    return cnn_error(CNN_ERR_USAGE, "augmentation '%.*s' is not known; there are %s", (int)length, name, known);
}

static int find_kind(const char *name, size_t length)
{
    for (int kind = 0; kind < CNN_AUGMENT_KINDS; kind++)
        if (strlen(kinds[kind].name) == length && memcmp(kinds[kind].name, name, length) == 0)
            return kind;
    return -1;
}

/* Reads the strength of [text, end), which are the characters behind "kind=". */
static cnn_status read_strength(const cnn_augment_info *info, const char *text, const char *end, float *strength)
{
    char *rest;
    const double value = strtod(text, &rest);
    if (rest == text || rest != end || !(value >= 0.0 && value <= info->most))
        return cnn_error(CNN_ERR_USAGE, "augmentation %s=%.*s: the strength is in %s, a number from 0 to %g",
                         info->name, (int)(end - text), text, info->strength, info->most);
    if (info->whole && value != (double)(int)value)
        return cnn_error(CNN_ERR_USAGE, "augmentation %s=%.*s: the strength is a whole number of %s", info->name,
                         (int)(end - text), text, info->strength);
    *strength = (float)value;
    return CNN_OK;
}

/* One "kind" or "kind=strength" of [item, end). */
static cnn_status read_item(const char *item, const char *end, bool seen[CNN_AUGMENT_KINDS], cnn_augment_recipe *recipe)
{
    const char *equals = memchr(item, '=', (size_t)(end - item));
    const size_t length = (size_t)((equals ? equals : end) - item);
    const int kind = find_kind(item, length);
    if (kind < 0)
        return unknown_kind(item, length);
    if (seen[kind])
        return cnn_error(CNN_ERR_USAGE, "augmentation %s is in the list twice", kinds[kind].name);
    seen[kind] = true;
    recipe->strength[kind] = (float)kinds[kind].standard;
    return equals ? read_strength(&kinds[kind], equals + 1, end, &recipe->strength[kind]) : CNN_OK;
}

cnn_status cnn_augment_parse(const char *list, double share, const cnn_dataset *data, cnn_augment_recipe *recipe)
{
    cnn_status status = CNN_OK;
    bool seen[CNN_AUGMENT_KINDS] = {false};
    *recipe = (cnn_augment_recipe){.share = (float)share};
    if (!(share >= 0.0 && share <= 1.0))
        CNN_FAIL(CNN_ERR_USAGE, "augmentation of a share of %g of the images: it must be in [0, 1]", share);
    recipe->one = find_class(data, "1");
    recipe->seven = find_class(data, "7");
    recipe->mirror = !black_around(data);
    if (!list)
        list = standard_list(data, recipe);
    for (;;) {
        const char *end = list + strcspn(list, ",");
        CNN_TRY(read_item(list, end, seen, recipe));
        if (!*end)
            break;
        list = end + 1;
    }
    if (recipe->strength[CNN_AUGMENT_SERIF] > 0.0f && !takes_serifs(data, recipe))
        CNN_FAIL(
            CNN_ERR_USAGE,
            "augmentation serif draws on handwritten 1s and 7s, white on black, and this data has none; leave it out");
out:
    return status;
}

void cnn_augment_print(const cnn_augment_recipe *recipe, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int kind = 0; kind < CNN_AUGMENT_KINDS && used < bytes; kind++) {
        const float strength = recipe->strength[kind];
        int digits = 1; /* the fewest that give the same number again */
        char number[32] = "";
        while (digits <= 9 && strtof(number, NULL) != strength)
            snprintf(number, sizeof number, "%.*g", digits++, (double)strength);
        if (strength > 0.0f)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s=%s", used ? "," : "", kinds[kind].name, number);
    }
}
