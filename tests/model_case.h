/* Small models for tests. */
#ifndef TESTS_MODEL_CASE_H
#define TESTS_MODEL_CASE_H

#include "core/model.h"

/* Fails the test with the library's error text unless the call succeeds. */
#define CHECK_OK(call) ck_assert_msg((call) == CNN_OK, "%s", cnn_last_error())

/* Fails the test unless the call fails with `status` and the error text holds each of `...` (strings). */
#define CHECK_FAILS(call, status, ...) case_check_error((call), status, #call, (const char *const[]){__VA_ARGS__, NULL})
void case_check_error(cnn_status got, cnn_status want, const char *call, const char *const *parts);

/* 4x4 image, conv of 2 3x3 filters, bn, relu, max-pool, linear to 3 classes; initialized with seed 7. */
cnn_model *case_tiny(void);

/* The same without bn, as INT8: values by formula, every scale set. */
cnn_model *case_tiny_int8(void);

/* Makes the float weights of any model without bn INT8, by a formula: for tests of files, not of accuracy. */
void case_quantize(cnn_model *model);

/* True when both have the same nodes, attributes, metadata, parameters, scales and masks, bit for bit. */
void case_check_equal(const cnn_model *a, const cnn_model *b);

#endif
