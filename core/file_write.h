/* Parts of the writer of .cnn files. */
#ifndef CNN_CORE_FILE_WRITE_H
#define CNN_CORE_FILE_WRITE_H

#include "core/file.h"

static inline size_t cnn_file_align_up(size_t bytes)
{
    return (bytes + CNN_FILE_ALIGN - 1) / CNN_FILE_ALIGN * CNN_FILE_ALIGN;
}

/* Appends the value of the field of tensors; what does not fit in the head becomes sections of the image. */
void cnn_file_put_tensors(cnn_file_image *image, cnn_bytes *table, const cnn_file_options *options,
                          const cnn_model *model);

/* Where every byte counts, and a stream can hold the model and makes it smaller: that stream, the books of its ranks
 * (none: of length 0), and what each node takes in it. Else CNN_ERR_SHAPE without a message, and all are empty. Free
 * both. */
cnn_status cnn_file_make_stream(const cnn_file_options *options, const cnn_model *model, cnn_bytes *stream,
                                cnn_bytes *books, size_t *node_bytes);

#endif
