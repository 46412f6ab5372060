/* The parser of network descriptions.
 *
 *   line  = [ name "=" type "(" [ item { "," item } ] ")" ] [ "#" comment ]
 *   item  = input-name | attribute "=" number
 *
 * A word is letters, digits and _ . / : - + so that it takes in names and numbers alike. */
#include "core/cfg.h"

#include "core/error.h"
#include "core/input_file.h"
#include "core/layers.h"
#include "core/memory.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct parser {
    cnn_model *model;
    const char *source;
    int line;
    char text[CNN_CFG_MAX_LINE + 1]; /* the line without its comment */
    char *at;
    char layer[CNN_NAME_BYTES];   /* being read, "" before its name is known */
    char softmax[CNN_NAME_BYTES]; /* that has been read, in line softmax_line; "" for none */
    int softmax_line;
} parser;

static const cnn_layer_type softmax_type = {.id = UINT8_MAX, .name = "softmax", .min_inputs = 1, .max_inputs = 1};

/* One layer as it is being read. */
typedef struct layer_draft {
    const cnn_layer_type *type;
    int input[CNN_MAX_INPUTS], input_count;
    double attr[CNN_MAX_ATTRS];
    bool given[CNN_MAX_ATTRS];
} layer_draft;

/* Puts source, line and layer before the recorded error. */
static cnn_status at_line(const parser *p, cnn_status status)
{
    if (p->layer[0])
        return cnn_error_prefix(status, "%s: line %d: layer '%s'", p->source, p->line, p->layer);
    return cnn_error_prefix(status, "%s: line %d", p->source, p->line);
}

static void skip_space(parser *p)
{
    while (*p->at == ' ' || *p->at == '\t' || *p->at == '\r')
        p->at++;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("_./:-+", c));
}

/* Reads a word into word; false when there is none or it is too long. */
static bool read_word(parser *p, char word[CNN_NAME_BYTES])
{
    skip_space(p);
    size_t length = 0;
    while (is_word(p->at[length]))
        length++;
    if (length == 0 || length >= CNN_NAME_BYTES)
        return false;
    memcpy(word, p->at, length);
    word[length] = '\0';
    p->at += length;
    return true;
}

static bool accept(parser *p, char c)
{
    skip_space(p);
    if (*p->at != c)
        return false;
    p->at++;
    return true;
}

static cnn_status expected(const parser *p, const char *what)
{
    if (is_word(*p->at) && strspn(p->at, "abcdefghijklmnopqrstuvwxyz0123456789") >= CNN_NAME_BYTES)
        return cnn_error(CNN_ERR_FORMAT, "a word is longer than %d characters", CNN_NAME_BYTES - 1);
    if (*p->at)
        return cnn_error(CNN_ERR_FORMAT, "%s expected at '%.20s'", what, p->at);
    return cnn_error(CNN_ERR_FORMAT, "%s expected at the end of the line", what);
}

static cnn_status unknown_type(const char *name)
{
    cnn_text list = {0};
    for (const cnn_layer_type *type = cnn_layer_types; type->name; type++)
        cnn_text_append(&list, "%s%s", type == cnn_layer_types ? "" : ", ", type->name);
    cnn_text_append(&list, ", %s", softmax_type.name);
    cnn_error(CNN_ERR_FORMAT, "'%s' is no layer type; there are %s", name, list.failed ? "" : list.data);
    cnn_text_free(&list);
    return CNN_ERR_FORMAT;
}

static cnn_status unknown_attr(const cnn_layer_type *type, const char *name)
{
    cnn_text list = {0};
    for (int i = 0; i < CNN_MAX_ATTRS && type->attr[i].name; i++)
        cnn_text_append(&list, "%s%s", i ? ", " : "", type->attr[i].name);
    if (list.data)
        cnn_error(CNN_ERR_FORMAT, "%s has no attribute '%s'; it takes %s", type->name, name, list.data);
    else
        cnn_error(CNN_ERR_FORMAT, "%s has no attribute '%s'; it takes none", type->name, name);
    cnn_text_free(&list);
    return CNN_ERR_FORMAT;
}

static cnn_status read_number(const char *word, const char *attr, double *value)
{
    char *end;
    *value = strtod(word, &end);
    /* Hexadecimal numbers, inf and nan would pass strtod; a description has no use for them. */
    if (end == word || *end || !isfinite(*value) || strpbrk(word, "xXpP"))
        return cnn_error(CNN_ERR_FORMAT, "%s is '%s'; it must be a number", attr, word);
    return CNN_OK;
}

static cnn_status read_attr(parser *p, layer_draft *draft, const char *name)
{
    char word[CNN_NAME_BYTES];
    int i = 0;
    while (i < CNN_MAX_ATTRS && draft->type->attr[i].name && strcmp(draft->type->attr[i].name, name) != 0)
        i++;
    if (i == CNN_MAX_ATTRS || !draft->type->attr[i].name)
        return unknown_attr(draft->type, name);
    if (draft->given[i])
        return cnn_error(CNN_ERR_FORMAT, "%s is given twice", name);
    if (!read_word(p, word))
        return expected(p, "a number");
    draft->given[i] = true;
    return read_number(word, name, &draft->attr[i]);
}

static cnn_status read_input(const parser *p, layer_draft *draft, const char *name)
{
    int node = cnn_model_find(p->model, name);
    if (node < 0)
        return cnn_error(CNN_ERR_FORMAT, "its input '%s' is no earlier layer; name one of the lines above", name);
    if (draft->input_count == draft->type->max_inputs)
        return cnn_error(CNN_ERR_FORMAT, "%s takes %d input%s; '%s' is one too many", draft->type->name,
                         draft->type->max_inputs, draft->type->max_inputs == 1 ? "" : "s", name);
    draft->input[draft->input_count++] = node;
    return CNN_OK;
}

/* input-name, or attribute = number */
static cnn_status read_item(parser *p, layer_draft *draft)
{
    char word[CNN_NAME_BYTES];
    if (!read_word(p, word))
        return expected(p, "an input or attribute=number");
    return accept(p, '=') ? read_attr(p, draft, word) : read_input(p, draft, word);
}

static cnn_status check_required(const layer_draft *draft)
{
    for (int i = 0; i < CNN_MAX_ATTRS && draft->type->attr[i].name; i++)
        if (draft->type->attr[i].required && !draft->given[i])
            return cnn_error(CNN_ERR_FORMAT, "%s needs %s=...", draft->type->name, draft->type->attr[i].name);
    return CNN_OK;
}

/* The node that was added last is a softmax: the model notes it, and loses the node. */
static cnn_status end_in_softmax(parser *p)
{
    cnn_model *model = p->model;
    const int last = model->node_count - 2, input = model->nodes[last + 1].input[0];
    model->node_count--;
    if (input != last)
        return cnn_error(CNN_ERR_FORMAT,
                         "takes the softmax of '%s', but the layer before it is '%s'; a softmax ends the "
                         "network",
                         model->nodes[input].name, model->nodes[last].name);
    model->softmax = true;
    memcpy(p->softmax, p->layer, sizeof p->softmax);
    p->softmax_line = p->line;
    return CNN_OK;
}

/* name = type(item, ...) */
static cnn_status read_layer(parser *p)
{
    cnn_status status = CNN_OK;
    char word[CNN_NAME_BYTES];
    layer_draft draft = {0};
    if (!read_word(p, word))
        CNN_TRY(expected(p, "the name of a layer"));
    if (!accept(p, '='))
        CNN_TRY(expected(p, "= after the name of the layer"));
    memcpy(p->layer, word, sizeof word);
    if (p->softmax_line)
        CNN_FAIL(CNN_ERR_FORMAT, "follows the softmax '%s' of line %d, which must be the last layer", p->softmax,
                 p->softmax_line);
    if (!read_word(p, word))
        CNN_TRY(expected(p, "a layer type"));
    draft.type = strcmp(word, softmax_type.name) == 0 ? &softmax_type : cnn_layer_find(word);
    if (!draft.type)
        CNN_TRY(unknown_type(word));
    for (int i = 0; i < CNN_MAX_ATTRS && draft.type->attr[i].name; i++)
        draft.attr[i] = draft.type->attr[i].standard;
    if (!accept(p, '('))
        CNN_TRY(expected(p, "( after the layer type"));
    if (!accept(p, ')')) {
        do
            CNN_TRY(read_item(p, &draft));
        while (accept(p, ','));
        if (!accept(p, ')'))
            CNN_TRY(expected(p, ", or )"));
    }
    skip_space(p);
    if (*p->at)
        CNN_FAIL(CNN_ERR_FORMAT, "nothing may follow ), but there is '%.20s'; one layer a line", p->at);
    CNN_TRY(check_required(&draft));
    int node = cnn_model_add(p->model, draft.type, p->layer, draft.input, draft.input_count, draft.attr);
    if (node < 0)
        CNN_TRY(node == -(int)CNN_ERR_MEMORY ? CNN_ERR_MEMORY : CNN_ERR_FORMAT);
    p->model->nodes[node].line = p->line;
    if (draft.type == &softmax_type)
        CNN_TRY(end_in_softmax(p));
out:
    return status;
}

static cnn_status read_line(parser *p, const char *text, size_t length)
{
    cnn_status status = CNN_OK;
    p->layer[0] = '\0';
    if (length > CNN_CFG_MAX_LINE)
        status = cnn_error(CNN_ERR_FORMAT, "is longer than %d bytes; is this a network description?", CNN_CFG_MAX_LINE);
    else if (memchr(text, '\0', length))
        status = cnn_error(CNN_ERR_FORMAT, "holds a zero byte; a network description is text");
    if (status != CNN_OK)
        return at_line(p, status);
    const char *comment = memchr(text, '#', length);
    if (comment)
        length = (size_t)(comment - text);
    memcpy(p->text, text, length);
    p->text[length] = '\0';
    p->at = p->text;
    skip_space(p);
    if (!*p->at)
        return CNN_OK;
    status = read_layer(p);
    return status == CNN_OK ? CNN_OK : at_line(p, status);
}

/* The name of a model that came from a file: its base name without ".cfg". */
static void name_from_source(const char *source, char name[CNN_NAME_BYTES])
{
    const char *slash = strrchr(source, '/');
    const char *base = slash ? slash + 1 : source;
    size_t length = strlen(base);
    if (length > 4 && strcmp(base + length - 4, ".cfg") == 0)
        length -= 4;
    if (length >= CNN_NAME_BYTES)
        length = CNN_NAME_BYTES - 1;
    memcpy(name, base, length);
    name[length] = '\0';
}

cnn_status cnn_cfg_read(const char *text, size_t length, const char *source, cnn_model **model)
{
    cnn_status status = CNN_OK;
    parser p = {.source = source};
    p.model = cnn_model_new();
    if (!p.model)
        return CNN_ERR_MEMORY;
    name_from_source(source, p.model->name);
    if (length > CNN_CFG_MAX_BYTES)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: has %zu bytes; a network description has at most %d", source, length,
                 CNN_CFG_MAX_BYTES);
    if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) { /* some editors begin UTF-8 text with this mark */
        text += 3;
        length -= 3;
    }
    while (length > 0) {
        const char *end = memchr(text, '\n', length);
        size_t line = end ? (size_t)(end - text) : length;
        p.line++;
        CNN_TRY(read_line(&p, text, line));
        text += line + (end != NULL);
        length -= line + (end != NULL);
    }
    if (p.model->node_count == 0)
        CNN_FAIL(CNN_ERR_FORMAT,
                 "%s: is empty; a network description begins with image = input(height=28, width=28, channels=1)",
                 source);
    *model = p.model;
    p.model = NULL;
out:
    cnn_model_free(p.model);
    return status;
}

static cnn_status parse(const char *text, size_t length, const char *source, cnn_model **model)
{
    cnn_model *made = NULL;
    cnn_status status = cnn_cfg_read(text, length, source, &made);
    if (status == CNN_OK)
        status = cnn_model_finish(made, source);
    if (status == CNN_OK)
        *model = made;
    else
        cnn_model_free(made);
    return status;
}

cnn_status cnn_model_parse(const char *text, const char *source, cnn_model **model)
{
    return parse(text, strlen(text), source, model);
}

static cnn_status unknown_model(const char *name)
{
    cnn_text list = {0};
    for (const char *const *builtin = cnn_model_builtin_names(); *builtin; builtin++)
        cnn_text_append(&list, "%s%s", list.length ? ", " : "", *builtin);
    cnn_error(CNN_ERR_IO,
              "there is no built-in model and no file '%s'; built-in are %s, else give the path of a .cfg file", name,
              list.failed ? "" : list.data);
    cnn_text_free(&list);
    return CNN_ERR_IO;
}

cnn_status cnn_model_create(const char *name_or_path, cnn_model **model)
{
    cnn_status status = CNN_OK;
    size_t length = 0;
    cnn_input_file file = {0};
    const char *builtin = cnn_builtin_cfg(name_or_path, &length);
    if (builtin)
        return parse(builtin, length, name_or_path, model);
    if (access(name_or_path, F_OK) != 0 && errno == ENOENT)
        return unknown_model(name_or_path);
    CNN_TRY(cnn_input_open(&file, name_or_path, "a network description (.cfg)", CNN_CFG_MAX_BYTES));
    if (file.size >= 4 && memcmp(file.data,
                                 "\x8F"
                                 "CNN",
                                 4) == 0)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: is a trained model; a network description (.cfg) is expected here", name_or_path);
    CNN_TRY(parse((const char *)file.data, file.size, name_or_path, model));
out:
    cnn_input_close(&file);
    return status;
}
