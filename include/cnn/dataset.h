/* Data sets in memory: bytes and labels.
 *
 * Names: "mnist", "fashion-mnist", "cifar10", "synth", "png:DIR". The folder is options->dir, else $CNN_DATA, else the
 * user's cache ($XDG_CACHE_HOME/cnnkit or ~/.cache/cnnkit); files lie in it or in a sub-folder named like the data set:
 * IDX files, plain or .gz; of CIFAR-10 its binary version, the .bin files there or in cifar-10-batches-bin, or
 * cifar-10-binary.tar.gz as it was published. "synth" is made by formula and needs no file.
 *
 * "png:DIR": PNG pictures of any size and kind in the folder DIR, one sub-folder a class; the names of the sub-folders,
 * sorted bytewise, are those of the classes (2 to 256). When DIR/train and DIR/test both are folders, each of them has
 * the classes' sub-folders; else a tenth of the pictures (at most 5000), stratified and chosen by hash of their place
 * in the sorted list, is the test set. Names that begin with a dot are passed over, what does not end in .png is
 * counted in the note. A picture that cannot be read is left out with a warning. Every picture is prepared as
 * options->form says (cnn_picture_prepare). */
#ifndef CNN_DATASET_H
#define CNN_DATASET_H

#include "cnn/picture.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Ids are part of the .cnn format: append only. */
typedef enum cnn_dataset_id {
    CNN_DATASET_NONE = 0,
    CNN_DATASET_MNIST = 1,
    CNN_DATASET_FASHION_MNIST = 2,
    CNN_DATASET_CIFAR10 = 3,
    CNN_DATASET_SYNTH = 4,
    CNN_DATASET_PICTURES = 5
} cnn_dataset_id;

typedef enum cnn_subset { CNN_SUBSET_TRAIN, CNN_SUBSET_TEST } cnn_subset;

typedef struct cnn_dataset {
    cnn_dataset_id id;
    int32_t count, height, width, channels, classes;
    uint8_t *images;             /* [count,height,width,channels] */
    uint8_t *labels;             /* [count], each < classes */
    char **class_names;          /* [classes] of CNN_DATASET_PICTURES; NULL: those that go with the id */
    cnn_preparation preparation; /* of CNN_DATASET_PICTURES */
    char note[160];              /* a sentence for the user when the data is not what its name promises, else "" */
} cnn_dataset;

typedef struct cnn_dataset_options {
    const char *dir; /* NULL: see above */
    bool fetch;      /* run get-data when files are missing */

    /* Of "png:DIR". What pictures are made into; zeros: 28x28, gray when all pictures of this part are gray, else RGB,
     * resized. A test part is to be given the form of the training part. */
    cnn_image_form form;
    /* Both may be NULL; called from the calling thread: pictures read so far, and sentences about broken ones. */
    void (*progress)(void *context, int64_t done, int64_t all);
    void (*warn)(void *context, const char *sentence);
    void *context;
} cnn_dataset_options;

/* Loads a data set; the caller frees it with cnn_dataset_free. Errors name the file and the byte offset. */
CNN_API cnn_status cnn_dataset_load(const char *name, cnn_subset subset, const cnn_dataset_options *options,
                                    cnn_dataset **dataset);
CNN_API void cnn_dataset_free(cnn_dataset *dataset);

/* "mnist" for CNN_DATASET_MNIST; NULL for an unknown id. */
CNN_API const char *cnn_dataset_name(cnn_dataset_id id);

/* Name of a class of a known data set ("7", "sneaker"), valid for ever; NULL when unknown. What a model was trained on
 * may have names of its own: see cnn_model_class_name. */
CNN_API const char *cnn_dataset_class_name(cnn_dataset_id id, int label);

/* Name of a class of these data: their own, else that of the known data set; NULL when unknown. */
CNN_API const char *cnn_dataset_label_name(const cnn_dataset *dataset, int label);

/* A stratified split: in each class the images are ordered by hash(seed, index) and the first share of them is held
 * out, in all min(5000, count/10). Both lists are ascending; the caller frees them with free(). */
typedef struct cnn_split {
    int32_t *train, *validation;
    int32_t train_count, validation_count;
} cnn_split;
CNN_API cnn_status cnn_dataset_split(const cnn_dataset *dataset, uint64_t seed, cnn_split *split);
CNN_API void cnn_split_free(cnn_split *split);

#ifdef __cplusplus
}
#endif
#endif
