/* Lists of class names, and what a name may be.
 *
 * A list is one block of memory: its pointers, then their text; free() it. */
#ifndef CNN_CORE_CLASS_NAMES_H
#define CNN_CORE_CLASS_NAMES_H

#include "cnn/status.h"

enum { CNN_MAX_CLASSES = 256 /* labels are bytes */, CNN_CLASS_NAME_BYTES = 255 /* at most, without the NUL */ };

/* What is wrong with a name, as the end of a sentence ("is empty"), or NULL: it has 1 to CNN_CLASS_NAME_BYTES bytes of
 * UTF-8 without control characters, so that it can be shown on a terminal. */
const char *cnn_class_name_problem(const char *name);

/* An empty list for `count` names of `bytes` bytes in all, NULs included; *text is where they go. NULL without memory.
 */
char **cnn_class_names_alloc(int32_t count, size_t bytes, char **text);

/* A copy of names [count] as a list; NULL without memory. */
char **cnn_class_names_copy(char *const *names, int32_t count);

#endif
