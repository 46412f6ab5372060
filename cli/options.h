/* Command-line options as a table: one row drives parsing, checking and --help.
 *
 * A row says where its value lies in a struct (`offset`) and the struct holds the defaults before parsing. To know
 * whether an option was given, start from a value that its range excludes (NULL, 0, -1). Example:
 *
 *     typedef struct settings { double ratio; int batch; const char *output; int structure; bool fast; } settings;
 *     static const char *const structures[] = {"channel", "block", NULL};
 *     static const cnn_option table[] = {
 *         {.group = "Passes", .name = "prune", .argument = "R", .kind = CNN_OPTION_DOUBLE,
 *          .offset = offsetof(settings, ratio), .min = 0, .max = 1, .open = CNN_OPEN_BOTH,
 *          .help = "remove this share of the output channels of every layer", .standard = "none"},
 *         {.letter = 'b', .name = "batch", .argument = "N", .kind = CNN_OPTION_INT, .offset = offsetof(settings,
 * batch), .int_min = 1, .int_max = 65536, .help = "images at once", .standard = "64"},
 *         {.name = "structure", .argument = "KIND", .kind = CNN_OPTION_CHOICE, .choices = structures,
 *          .offset = offsetof(settings, structure), .help = "what is removed: channel or block"},
 *         {.name = "fast", .kind = CNN_OPTION_FLAG, .offset = offsetof(settings, fast), .help = "..."},
 *         {.name = NULL}};
 */
#ifndef CNN_CLI_OPTIONS_H
#define CNN_CLI_OPTIONS_H

#include "cnn/status.h"

#include <stdio.h>

typedef enum cnn_option_kind {
    CNN_OPTION_FLAG,   /* bool: true when given */
    CNN_OPTION_INT,    /* int, in [int_min, int_max] */
    CNN_OPTION_INT64,  /* int64_t, in [int_min, int_max] */
    CNN_OPTION_DOUBLE, /* double, finite, in the range of min, max, open */
    CNN_OPTION_STRING, /* const char *, not empty, pointing into argv; one of `choices` when there are any */
    CNN_OPTION_CHOICE  /* int (or an enum): number of the word in `choices` */
} cnn_option_kind;

/* What completes an option's value in a shell, besides `choices`. */
typedef enum cnn_complete {
    CNN_COMPLETE_BY_ARGUMENT, /* files for "FILE", folders for "DIR", else nothing */
    CNN_COMPLETE_MODEL,       /* .cnn files */
    CNN_COMPLETE_NETWORK,     /* built-in networks and .cfg files */
    CNN_COMPLETE_PICTURE,     /* .png files */
    CNN_COMPLETE_DATA,        /* data sets */
    CNN_COMPLETE_DEVICE,
    CNN_COMPLETE_TOPIC /* of --help */
} cnn_complete;

/* Which ends of [min, max] a DOUBLE may not take. */
typedef enum cnn_open { CNN_OPEN_NONE = 0, CNN_OPEN_MIN = 1, CNN_OPEN_MAX = 2, CNN_OPEN_BOTH = 3 } cnn_open;

typedef struct cnn_option {
    const char *group;    /* heading in --help; NULL: the group of the row before */
    char letter;          /* 'o' for -o; 0: none */
    const char *name;     /* "output" for --output; NULL ends the table */
    const char *argument; /* "FILE", as --help shows it; NULL for flags */
    cnn_option_kind kind;
    size_t offset; /* of the value in the settings struct */
    int64_t int_min, int_max;
    double min, max; /* max may be HUGE_VAL: no upper end */
    cnn_open open;
    const char *const *choices; /* NULL after the last */
    const char *bare;  /* the value when the option stands without one (--amp[=TYPE]); NULL: it must have one */
    const char *word;  /* INT, INT64, DOUBLE: a word allowed beside numbers ("dynamic"); NULL: none */
    double word_value; /* what the word means; may lie outside the range */
    bool stops;        /* parsing ends when it is given, whatever follows (--help) */
    bool basic;        /* --help shows it; else only --help=all does */
    cnn_complete complete;
    const char *help;     /* what it does; wrapped to 80 columns */
    const char *standard; /* default, shown as "(default: ...)"; NULL: not shown */
} cnn_option;

/* A table and the struct that it writes to. */
typedef struct cnn_option_table {
    const cnn_option *options;
    void *settings;
} cnn_option_table;

typedef struct cnn_operands {
    char **list; /* in argv */
    int count;
} cnn_operands;

/* Parses argv (which getopt_long reorders: options first). CNN_ERR_USAGE with a sentence that names the option, the
 * value and what is allowed. Settings may be partly written on failure. */
cnn_status cnn_options_parse(const cnn_option_table *tables, int table_count, int argc, char **argv,
                             cnn_operands *operands);

/* The word of `words` (NULL after the last) nearest to `text`, NULL when none is near. */
const char *cnn_suggest(const char *text, const char *const *words);

#endif
