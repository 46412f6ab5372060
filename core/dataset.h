/* What the files behind data sets offer each other. */
#ifndef CNN_CORE_DATASET_H
#define CNN_CORE_DATASET_H

#include "cnn/dataset.h"

enum { CNN_DATASET_FILES = 6 };

/* Where the files of one subset lie. */
typedef struct cnn_dataset_files {
    char *path[CNN_DATASET_FILES]; /* in the order of the layout; [0] NULL: they were not found */
    bool archive;                  /* path[0] is one that holds them all */
    char *note;                    /* first line of the file NOTE beside them, or NULL */
} cnn_dataset_files;

/* How a data set lies in a folder. */
typedef struct cnn_dataset_layout {
    const char *sub_folder; /* of any folder, searched before it; or NULL */
    const char *wanted[2];  /* [subset] the names, for people */
    /* Fills files->path when the folder holds all files of the subset. */
    cnn_status (*look_in)(const char *folder, cnn_subset subset, cnn_dataset_files *files);
} cnn_dataset_layout;

extern const cnn_dataset_layout cnn_idx_layout;   /* images, labels */
extern const cnn_dataset_layout cnn_cifar_layout; /* core/cifar.c */

/* Sets *path to folder/name when such a file is there; else it stays as it is. */
cnn_status cnn_dataset_find_file(const char *folder, const char *name, char **path);

/* Finds the files of a subset of the data set `name`, fetching them when options say so. The error lists the folders
 * that were searched and the command that fetches the data. Free with cnn_dataset_files_free. */
cnn_status cnn_dataset_find(const char *name, const cnn_dataset_layout *layout, cnn_subset subset,
                            const cnn_dataset_options *options, cnn_dataset_files *files);
void cnn_dataset_files_free(cnn_dataset_files *files);

/* Reads an IDX file of unsigned bytes with `dims` dimensions, plain or gzip. sizes: [dims], each >= 1; *data: the
 * bytes, the caller frees them. Errors name file and byte offset. */
cnn_status cnn_idx_read(const char *path, int dims, int32_t *sizes, uint8_t **data);

/* Reads images and labels into a data set whose id and classes are set; on failure it holds no memory. */
cnn_status cnn_idx_load(const char *images_path, const char *labels_path, cnn_dataset *dataset);

/* Reads the files that cnn_cifar_layout found into a data set whose id and classes are set; on failure it holds no
 * memory. */
cnn_status cnn_cifar_load(const cnn_dataset_files *files, cnn_subset subset, cnn_dataset *dataset);

/* Reads the pictures in the sub-folders of `folder` ("png:DIR", cnn/dataset.h) into a data set whose id is set. */
cnn_status cnn_pictures_load(const char *folder, cnn_subset subset, const cnn_dataset_options *options,
                             cnn_dataset *dataset);

/* Makes the images and labels of the data set "synth". */
cnn_status cnn_synth_load(cnn_subset subset, cnn_dataset *dataset);

/* Names of the classes of "synth", [10]. */
extern const char *const cnn_synth_classes[];

/* Path of the script get-data, or NULL with no error when this installation has none. The caller frees it. */
char *cnn_fetch_script(void);

/* Runs `get-data name dir` with its output on standard error and waits for it. */
cnn_status cnn_fetch(const char *name, const char *dir);

/* The images to train on become all there are; those held out stay a list of them, to be measured. */
cnn_status cnn_split_train_on_all(cnn_split *split);

#endif
