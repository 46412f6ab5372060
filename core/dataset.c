/* The table of data sets: names, classes, how each is loaded and what its files should hold. A new data set is one
 * loader and one row here. */
#include "core/dataset.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct dataset_type dataset_type;

struct dataset_type {
    cnn_dataset_id id;
    const char *name;
    const char *prefix; /* "png:", when what follows it says where the data are; NULL: they are asked for by name */
    const char *title;  /* as people write it */
    int32_t classes;    /* 0: the loader tells, and brings their names */
    const char *const *class_names;
    /* `where`: what follows the prefix, else NULL */
    cnn_status (*load)(const dataset_type *type, const char *where, cnn_subset subset,
                       const cnn_dataset_options *options, cnn_dataset *dataset);
    int32_t official_count[2]; /* [subset], of data sets in files */
    int32_t height, width;     /* this and the next: of data sets in IDX files */
    /* [subset] CRC-32 of the official labels, which tells data sets with equal file names apart */
    uint32_t label_crc[2];
    const cnn_normalization *normalization; /* NULL: mean and deviation 0.5 */
};

static const char *const digit_names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
static const char *const fashion_names[] = {"T-shirt", "trouser", "pullover", "dress", "coat",
                                            "sandal",  "shirt",   "sneaker",  "bag",   "ankle boot"};

static const char *const cifar10_names[] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                            "dog",      "frog",       "horse", "ship", "truck"};

/* Of the 50,000 training images' pixels, as everybody writes them. */
static const cnn_normalization cifar10_normalization = {.mean = {0.4914f, 0.4822f, 0.4465f, 0.4465f},
                                                        .std = {0.2470f, 0.2435f, 0.2616f, 0.2616f}};

static cnn_status load_idx(const dataset_type *type, const char *where, cnn_subset subset,
                           const cnn_dataset_options *options, cnn_dataset *dataset);
static cnn_status load_cifar(const dataset_type *type, const char *where, cnn_subset subset,
                             const cnn_dataset_options *options, cnn_dataset *dataset);

static cnn_status load_synth(const dataset_type *type, const char *where, cnn_subset subset,
                             const cnn_dataset_options *options, cnn_dataset *dataset)
{
    (void)type;
    (void)where;
    (void)options;
    return cnn_synth_load(subset, dataset);
}

static cnn_status load_pictures(const dataset_type *type, const char *where, cnn_subset subset,
                                const cnn_dataset_options *options, cnn_dataset *dataset)
{
    if (!*where)
        return cnn_error(CNN_ERR_USAGE, "%s lacks its folder: write %sDIR, where DIR has one sub-folder a class",
                         type->prefix, type->prefix);
    return cnn_pictures_load(where, subset, options, dataset);
}

static const dataset_type types[] = {
    {.id = CNN_DATASET_MNIST,
     .name = "mnist",
     .title = "MNIST",
     .classes = 10,
     .class_names = digit_names,
     .load = load_idx,
     .height = 28,
     .width = 28,
     .official_count = {60000, 10000},
     .label_crc = {0xba07e8ef, 0xee8604d9}},
    {.id = CNN_DATASET_FASHION_MNIST,
     .name = "fashion-mnist",
     .title = "Fashion-MNIST",
     .classes = 10,
     .class_names = fashion_names,
     .load = load_idx,
     .height = 28,
     .width = 28,
     .official_count = {60000, 10000},
     .label_crc = {0x2ed6e46a, 0x242bc73f}},
    {.id = CNN_DATASET_CIFAR10,
     .name = "cifar10",
     .title = "CIFAR-10",
     .classes = 10,
     .class_names = cifar10_names,
     .load = load_cifar,
     .official_count = {50000, 10000},
     .normalization = &cifar10_normalization},
    {.id = CNN_DATASET_SYNTH,
     .name = "synth",
     .title = "synth",
     .classes = 10,
     .class_names = cnn_synth_classes,
     .load = load_synth},
    {.id = CNN_DATASET_PICTURES, .name = "pictures", .prefix = "png:", .title = "pictures", .load = load_pictures},
};
enum { TYPES = sizeof types / sizeof *types };

static const dataset_type *find_id(cnn_dataset_id id)
{
    for (int i = 0; i < TYPES; i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}

/* *where: what follows the prefix of the type that is found, else NULL. */
static const dataset_type *find_name(const char *name, const char **where)
{
    *where = NULL;
    for (int i = 0; i < TYPES; i++) {
        size_t length = types[i].prefix ? strlen(types[i].prefix) : 0;
        if (length ? strncmp(types[i].prefix, name, length) != 0 : strcmp(types[i].name, name) != 0)
            continue;
        if (length)
            *where = name + length;
        return &types[i];
    }
    return NULL;
}

static const char *part_name(cnn_subset subset)
{
    return subset == CNN_SUBSET_TEST ? "test" : "training";
}

/* Notes when there are more or fewer images than were published, unless something is noted already. */
static void compare_count(const dataset_type *type, cnn_subset subset, cnn_dataset *dataset)
{
    const int32_t official = type->official_count[subset == CNN_SUBSET_TEST];
    if (!dataset->note[0] && dataset->count != official)
        snprintf(dataset->note, sizeof dataset->note, "%d %s images, while %s has %d", dataset->count,
                 part_name(subset), type->title, official);
}

/* Refuses another data set under this one's file names, and notes what is not as published. */
static cnn_status compare_official(const dataset_type *type, cnn_subset subset, const char *path, cnn_dataset *dataset)
{
    int which = subset == CNN_SUBSET_TEST;
    uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), dataset->labels, (uInt)dataset->count);
    if (crc == type->label_crc[which])
        return CNN_OK;
    for (int i = 0; i < TYPES; i++)
        if (dataset->count == types[i].official_count[which] && crc == types[i].label_crc[which])
            return cnn_error(CNN_ERR_FORMAT, "%s: these are the %s labels of %s, not of %s", path, part_name(subset),
                             types[i].title, type->title);
    compare_count(type, subset, dataset);
    if (!dataset->note[0])
        snprintf(dataset->note, sizeof dataset->note, "the %s labels are not those that %s was published with",
                 part_name(subset), type->title);
    return CNN_OK;
}

static void take_note(const cnn_dataset_files *files, cnn_dataset *dataset)
{
    if (files->note)
        snprintf(dataset->note, sizeof dataset->note, "%.*s", (int)sizeof dataset->note - 1, files->note);
}

static cnn_status load_idx(const dataset_type *type, const char *where, cnn_subset subset,
                           const cnn_dataset_options *options, cnn_dataset *dataset)
{
    (void)where;
    cnn_status status = CNN_OK;
    cnn_dataset_files files;
    CNN_TRY(cnn_dataset_find(type->name, &cnn_idx_layout, subset, options, &files));
    const char *images = files.path[0], *labels = files.path[1];
    take_note(&files, dataset);
    CNN_TRY(cnn_idx_load(images, labels, dataset));
    if (dataset->height != type->height || dataset->width != type->width)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: images of %dx%d (at byte 8), but %s has %dx%d", images, dataset->height,
                 dataset->width, type->title, type->height, type->width);
    CNN_TRY(compare_official(type, subset, labels, dataset));
out:
    cnn_dataset_files_free(&files);
    return status;
}

static cnn_status load_cifar(const dataset_type *type, const char *where, cnn_subset subset,
                             const cnn_dataset_options *options, cnn_dataset *dataset)
{
    (void)where;
    cnn_dataset_files files;
    cnn_status status = cnn_dataset_find(type->name, &cnn_cifar_layout, subset, options, &files);
    if (status == CNN_OK) {
        take_note(&files, dataset);
        status = cnn_cifar_load(&files, subset, dataset);
    }
    if (status == CNN_OK)
        compare_count(type, subset, dataset);
    cnn_dataset_files_free(&files);
    return status;
}

static cnn_status unknown_name(const char *name)
{
    char known[160] = "";
    size_t length = 0;
    for (int i = 0; i < TYPES && length < sizeof known; i++)
        length += (size_t)snprintf(known + length, sizeof known - length, "%s%s%s", i ? ", " : "",
                                   types[i].prefix ? types[i].prefix : types[i].name, types[i].prefix ? "DIR" : "");
    return cnn_error(CNN_ERR_USAGE, "data set '%s' is not known; there are %s", name, known);
}

cnn_status cnn_dataset_load(const char *name, cnn_subset subset, const cnn_dataset_options *options,
                            cnn_dataset **dataset)
{
    cnn_status status = CNN_OK;
    const char *where;
    const dataset_type *type = find_name(name, &where);
    if (!type)
        return unknown_name(name);
    cnn_dataset *made = cnn_calloc(1, sizeof *made);
    if (!made)
        return CNN_ERR_MEMORY;
    made->id = type->id;
    made->classes = type->classes;
    CNN_TRY(type->load(type, where, subset, options, made));
    *dataset = made;
    made = NULL;
out:
    cnn_dataset_free(made);
    return status;
}

void cnn_dataset_free(cnn_dataset *dataset)
{
    if (!dataset)
        return;
    free(dataset->images);
    free(dataset->labels);
    free(dataset->class_names);
    free(dataset);
}

const char *cnn_dataset_name(cnn_dataset_id id)
{
    const dataset_type *type = find_id(id);
    return type ? type->name : NULL;
}

const cnn_normalization *cnn_dataset_normalization(cnn_dataset_id id)
{
    static const cnn_normalization halves = {.mean = {0.5f, 0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f, 0.5f}};
    const dataset_type *type = find_id(id);
    return type && type->normalization ? type->normalization : &halves;
}

const char *cnn_dataset_class_name(cnn_dataset_id id, int label)
{
    const dataset_type *type = find_id(id);
    return type && type->class_names && label >= 0 && label < type->classes ? type->class_names[label] : NULL;
}

const char *cnn_dataset_label_name(const cnn_dataset *dataset, int label)
{
    if (!dataset->class_names)
        return cnn_dataset_class_name(dataset->id, label);
    return label >= 0 && label < dataset->classes ? dataset->class_names[label] : NULL;
}
