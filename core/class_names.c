/* Class names: which are allowed, and lists of them in one block. */
#include "core/class_names.h"

#include "core/memory.h"
#include "core/utf8.h"

#include <string.h>

const char *cnn_class_name_problem(const char *name)
{
    if (!*name)
        return "is empty";
    if (strlen(name) > CNN_CLASS_NAME_BYTES)
        return "is longer than 255 bytes";
    for (const char *c = name; *c;) {
        int bytes = cnn_utf8_bytes(c);
        if (bytes == 0)
            return "is not UTF-8 text";
        if (cnn_utf8_is_control(c))
            return "holds a control character";
        c += bytes;
    }
    return NULL;
}

char **cnn_class_names_alloc(int32_t count, size_t bytes, char **text)
{
    size_t pointers = (size_t)count * sizeof(char *);
    char **names = cnn_calloc(1, pointers + bytes);
    if (names)
        *text = (char *)(names + count);
    return names;
}

char **cnn_class_names_copy(char *const *names, int32_t count)
{
    size_t bytes = 0;
    char *text;
    for (int32_t i = 0; i < count; i++)
        bytes += strlen(names[i]) + 1;
    char **copy = cnn_class_names_alloc(count, bytes, &text);
    for (int32_t i = 0; copy && i < count; i++) {
        size_t length = strlen(names[i]) + 1;
        copy[i] = memcpy(text, names[i], length);
        text += length;
    }
    return copy;
}
