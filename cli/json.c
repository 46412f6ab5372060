/* The JSON writer. */
#include "cli/json.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the UTF-8 sequence at `text` (Unicode 15, table 3-7); 0 when it is none. */
static int sequence_bytes(const unsigned char *text)
{
    unsigned char a = text[0], low = 0x80, high = 0xBF; /* allowed range of the second byte */
    int bytes = a < 0x80 ? 1 : a >= 0xC2 && a <= 0xDF ? 2 : a >= 0xE0 && a <= 0xEF ? 3 : a >= 0xF0 && a <= 0xF4 ? 4 : 0;
    if (a == 0xE0)
        low = 0xA0; /* no overlong forms */
    if (a == 0xED)
        high = 0x9F; /* no surrogates */
    if (a == 0xF0)
        low = 0x90;
    if (a == 0xF4)
        high = 0x8F; /* nothing above U+10FFFF */
    for (int i = 1; i < bytes; i++) {
        if (text[i] < low || text[i] > high)
            return 0;
        low = 0x80;
        high = 0xBF;
    }
    return bytes;
}

static void write_text(FILE *out, const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    fputc('"', out);
    while (*c) {
        int bytes = sequence_bytes(c);
        if (bytes == 0)
            fputs("\\ufffd", out);
        else if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else if (*c < ' ' || *c == 0x7f)
            fprintf(out, "\\u%04x", *c);
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
