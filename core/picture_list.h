/* Pictures in folders: which there are, of which class, for training or for testing.
 *
 * FOLDER has one sub-folder a class. When FOLDER/train and FOLDER/test both are folders, the classes lie in each of
 * them; else a stratified tenth of all pictures, chosen by hash, is for testing. A picture is a file whose name ends
 * in .png (in any case); names that begin with a dot are passed over. Symbolic links are followed. */
#ifndef CNN_CORE_PICTURE_LIST_H
#define CNN_CORE_PICTURE_LIST_H

#include "cnn/dataset.h"

typedef struct cnn_picture_file {
    char *path;
    uint8_t label;
} cnn_picture_file;

/* Free with cnn_picture_list_free. */
typedef struct cnn_picture_list {
    cnn_picture_file *files; /* [count], by class, in each by name, bytewise */
    int32_t count, capacity;
    char **class_names; /* [classes], sorted bytewise; a list as core/class_names.h has it */
    int32_t classes;
    int32_t ignored; /* files that are no pictures by name or kind, and what lies deeper than a class's folder */
} cnn_picture_list;

/* Lists the pictures of a part. Refused: what is no folder or cannot be read; fewer than 2 classes or more than 256; a
 * class without pictures to train on; a test folder with a class that the training folder lacks; no picture at all. */
cnn_status cnn_picture_list_read(const char *folder, cnn_subset subset, cnn_picture_list *list);
void cnn_picture_list_free(cnn_picture_list *list);

#endif
