/* The JSON writer. */
#include "cli/json.h"

#include "core/utf8.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void write_text(FILE *out, const char *text)
{
    const char *c = text;
    fputc('"', out);
    while (*c) {
        int bytes = cnn_utf8_bytes(c);
        if (bytes == 0)
            fputs("\\ufffd", out);
        else if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else if ((unsigned char)*c < ' ' || *c == 0x7f)
            fprintf(out, "\\u%04x", (unsigned)*c);
        else
            fwrite(c, 1, (size_t)bytes, out);
        c += bytes ? bytes : 1;
    }
    fputc('"', out);
}

/* What stands before a value: a comma, and inside an object the key. */
static void write_key(cnn_json *json, const char *key)
{
    assert(json->depth > 0 && (key != NULL) == (json->closer[json->depth - 1] == '}'));
    if (!json->first)
        fputs(", ", json->out);
    json->first = false;
    if (key) {
        write_text(json->out, key);
        fputs(": ", json->out);
    }
}

static void open_level(cnn_json *json, char opener, char closer)
{
    assert(json->depth < CNN_JSON_DEPTH);
    fputc(opener, json->out);
    json->closer[json->depth++] = closer;
    json->first = true;
}

void cnn_json_begin(cnn_json *json, FILE *out)
{
    *json = (cnn_json){.out = out};
    open_level(json, '{', '}');
}

void cnn_json_end(cnn_json *json)
{
    assert(json->depth == 1);
    cnn_json_close(json);
    fputc('\n', json->out);
}

void cnn_json_object(cnn_json *json, const char *key)
{
    write_key(json, key);
    open_level(json, '{', '}');
}

void cnn_json_array(cnn_json *json, const char *key)
{
    write_key(json, key);
    open_level(json, '[', ']');
}

void cnn_json_close(cnn_json *json)
{
    assert(json->depth > 0);
    fputc(json->closer[--json->depth], json->out);
    json->first = false;
}

void cnn_json_number(cnn_json *json, const char *key, double value)
{
    char text[40];
    write_key(json, key);
    if (!isfinite(value)) {
        fputs("null", json->out);
        return;
    }
    /* The fewest digits that read back as the same number; 17 always do. */
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, json->out);
}

void cnn_json_integer(cnn_json *json, const char *key, int64_t value)
{
    write_key(json, key);
    fprintf(json->out, "%lld", (long long)value);
}

void cnn_json_bool(cnn_json *json, const char *key, bool value)
{
    write_key(json, key);
    fputs(value ? "true" : "false", json->out);
}

void cnn_json_string(cnn_json *json, const char *key, const char *value)
{
    write_key(json, key);
    if (value)
        write_text(json->out, value);
    else
        fputs("null", json->out);
}
