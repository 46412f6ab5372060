/* Codebooks in files (docs/format.md, field 69): where a layer's weights take few numbers, the stream of parameters
 * holds their ranks. */
#ifndef CNN_CORE_FILE_BOOKS_H
#define CNN_CORE_FILE_BOOKS_H

#include "core/bytes.h"
#include "core/model.h"

enum { CNN_BOOK_MOST = 32 }; /* numbers other than 0 */

/* Appends the field of a model with i8 weights, and makes a copy of it whose weights are ranks. *ranked is NULL, and
 * nothing is appended, when no layer gains from it. */
cnn_status cnn_books_make(const cnn_model *model, cnn_bytes *field, cnn_model **ranked);

/* Reads a field, and makes numbers of the ranks that the weights of `model` are. */
cnn_status cnn_books_read(cnn_reader *field, cnn_model *model);

#endif
