/* Writing JSON as it comes: one object in one line.
 *
 *     cnn_json json;
 *     cnn_json_begin(&json, stdout);              // {
 *     cnn_json_number(&json, "accuracy", 0.985);
 *     cnn_json_array(&json, "results");           // "results": [
 *     cnn_json_object(&json, NULL);               // {           (NULL: no key, inside an array)
 *     cnn_json_string(&json, "file", path);
 *     cnn_json_close(&json);                      // }
 *     cnn_json_close(&json);                      // ]
 *     cnn_json_end(&json);                        // }\n
 *
 * Numbers are written so that reading gives the same double; NaN and infinities become null. Text that is not UTF-8
 * gets U+FFFD for each wrong byte. */
#ifndef CNN_CLI_JSON_H
#define CNN_CLI_JSON_H

#include "cnn/status.h"

#include <stdio.h>

enum { CNN_JSON_DEPTH = 16 };

typedef struct cnn_json {
    FILE *out;
    int depth;
    char closer[CNN_JSON_DEPTH]; /* '}' or ']' of each open object or array */
    bool first;                  /* nothing written yet in the innermost one */
} cnn_json;

void cnn_json_begin(cnn_json *json, FILE *out);
void cnn_json_end(cnn_json *json); /* everything must be closed but the outermost object */

void cnn_json_object(cnn_json *json, const char *key);
void cnn_json_array(cnn_json *json, const char *key);
void cnn_json_close(cnn_json *json); /* the innermost object or array */

void cnn_json_number(cnn_json *json, const char *key, double value);
void cnn_json_integer(cnn_json *json, const char *key, int64_t value);
void cnn_json_bool(cnn_json *json, const char *key, bool value);
void cnn_json_string(cnn_json *json, const char *key, const char *value); /* NULL: null */

#endif
