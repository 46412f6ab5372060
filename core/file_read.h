/* Parts of the reader of .cnn files. */
#ifndef CNN_CORE_FILE_READ_H
#define CNN_CORE_FILE_READ_H

#include "core/file.h"

/* Fills in what the fields say of a model whose graph and shapes are known. */
cnn_status cnn_file_read_facts(cnn_reader field[CNN_TAG_COUNT], cnn_model *model);

#endif
