/* NumPy's .npy files, one array each: bytes and 32-bit floats, in C order.
 *
 * Magic 93 "NUMPY", version (two bytes: 1.0, 2.0 or 3.0), length of the header (2 bytes, from 2.0 on 4, little-endian),
 * the header, a Python dict of ASCII text that spaces and a newline fill up so that the values begin at a multiple of
 * 64; the values:
 *
 *     {'descr': '|u1', 'fortran_order': False, 'shape': (10, 32, 32, 3), } */
#ifndef CNN_CORE_NPY_H
#define CNN_CORE_NPY_H

#include "cnn/tensor.h"
#include "core/input_file.h"

enum { CNN_NPY_RANK = 4 };

typedef struct cnn_npy {
    cnn_dtype dtype; /* CNN_U8 or CNN_F32 */
    int rank;
    int64_t dims[CNN_NPY_RANK];
    int64_t count;       /* product of dims */
    const uint8_t *data; /* as in the file, floats little-endian; not aligned */
    cnn_input_file file;
} cnn_npy;

/* Reads an array. Its values are all in the file, and nothing behind them. */
cnn_status cnn_npy_read(cnn_npy *array, const char *path);
void cnn_npy_close(cnn_npy *array);

/* Writes rows of little-endian floats, [rows,columns]. What was at `path` stays whole when it fails. */
cnn_status cnn_npy_write(const char *path, int64_t rows, int64_t columns, const void *data);

#endif
