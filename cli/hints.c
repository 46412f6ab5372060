/* Guesses at what was meant. */
#include "cli/hints.h"

#include "cnn/dataset.h"
#include "cnn/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_LETTERS = 4 }; /* of a word that is looked for in descriptions */

const char *cnn_hint_value(const cnn_option *option, const char *value, char text[CNN_HINT_BYTES])
{
    char *end;
    double number = strtod(value, &end);
    bool is_number = end != value && isfinite(number);
    text[0] = '\0';
    if (option->kind != CNN_OPTION_DOUBLE || !is_number)
        return text;
    if (*end == ',')
        snprintf(text, CNN_HINT_BYTES, " (write a point in the place of the comma)");
    else if (option->max <= 1 && number > 1 && number <= 100 && (!*end || strcmp(end, "%") == 0))
        snprintf(text, CNN_HINT_BYTES, " (for %g %% write %g)", number, number / 100);
    return text;
}

static bool is_among(const char *word, const char *const *words)
{
    for (int i = 0; words && words[i]; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

static bool is_data(const char *word)
{
    for (int id = CNN_DATASET_NONE + 1; id < CNN_DATASET_PICTURES; id++) {
        const char *name = cnn_dataset_name((cnn_dataset_id)id);
        if (name && strcmp(name, word) == 0)
            return true;
    }
    return strncmp(word, "png:", 4) == 0;
}

static bool may_be_value(const cnn_option *option, const char *word)
{
    size_t length = strlen(word);
    switch (option->complete) {
    case CNN_COMPLETE_NETWORK:
        return is_among(word, cnn_model_builtin_names()) || (length > 4 && strcmp(word + length - 4, ".cfg") == 0);
    case CNN_COMPLETE_DATA:
        return is_data(word);
    default:
        return is_among(word, option->choices);
    }
}

const char *cnn_hint_operand(const cnn_option_table *tables, int table_count, const char *word,
                             char text[CNN_HINT_BYTES])
{
    text[0] = '\0';
    for (int t = 0; t < table_count && !*text; t++)
        for (const cnn_option *option = tables[t].options; option->name && !*text; option++)
            if (may_be_value(option, word))
                snprintf(text, CNN_HINT_BYTES, "--%s%s%.60s", option->name, option->bare ? "=" : " ", word);
    return text;
}

const cnn_option *cnn_hint_option(const cnn_option *const *options, int count, const char *name)
{
    char words[CNN_HINT_BYTES];
    if (strlen(name) < LEAST_LETTERS)
        return NULL;
    snprintf(words, sizeof words, "%s", name);
    for (char *c = words; *c; c++)
        *c = *c == '-' ? ' ' : *c;
    for (int i = 0; i < count; i++)
        if (strstr(options[i]->help, words))
            return options[i];
    return NULL;
}
