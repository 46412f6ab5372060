/* A command-line tool from start to end. A main() is:
 *
 *     int main(int argc, char **argv)
 *     {
 *         settings settings = {.batch = 64, .output = "model.cnn"};
 *         cnn_cli cli;
 *         int code;
 *         if (!cnn_cli_begin(&cli, &tool, &settings, argc, argv, &code))
 *             return code;
 *         return cnn_cli_end(&cli, run(&cli, &settings));
 *     }
 *
 * Results go to standard output, everything else (messages, progress) to standard error. With --json standard output
 * holds one object and nothing else. */
#ifndef CNN_CLI_CLI_H
#define CNN_CLI_CLI_H

#include "cli/options.h"

#include "cnn/dataset.h"
#include "cnn/model.h"

/* Options of all three tools; declared in cli/common.c. */
typedef struct cnn_common {
    const char *help; /* topic, "" for the short text; NULL: not asked for */
    int completion;   /* number of a shell; -1: not asked for */
    bool version, json, quiet, verbose;
    int threads;        /* 0: not given */
    int64_t max_memory; /* MB; 0: not given */
    int64_t seed;       /* 1 */
    bool tf32, autotune;
    const char *device; /* "auto" */
    const char *data;   /* NULL: not given */
    const char *data_dir;
    const char *normalize; /* of models from other tools; NULL: not given */
} cnn_common;

extern const cnn_option cnn_common_options[];

typedef struct cnn_example {
    const char *command; /* "cnn-train --amp" */
    const char *what;    /* "train convnet on MNIST with FP16" */
} cnn_example;

/* What --help says and what the tool accepts. */
typedef struct cnn_tool {
    const char *name;            /* "cnn-train" */
    const char *const *usage;    /* "[OPTION]...", one a line, NULL after the last */
    const char *summary;         /* one line: "Train a convolutional network." */
    const char *description;     /* a paragraph, or NULL */
    const cnn_option *options;   /* of this tool; its common options follow */
    const cnn_example *examples; /* command = NULL after the last */
    int max_operands;            /* -1: any number */
    bool device_lists;           /* --device may name several, "cpu,ref" */
    cnn_complete complete;       /* what completes operands in a shell */
    const char *operand;         /* what an operand is: "a picture"; NULL with max_operands = 0 */
} cnn_tool;

typedef struct cnn_cli {
    const cnn_tool *tool;
    cnn_common common;
    cnn_operands operands;
    int argc; /* the command line; options come first */
    char **argv;
    cnn_image_form form; /* what --data png:DIR is made into; zeros: as cnn_dataset_options has it */
    char note[160];      /* of a data set, as shown last: train and test sets have the same */
    bool failed;         /* an error was shown already: the exit code is 1 at least */
    bool bar;            /* a progress bar stands in the last line of the terminal: messages clear it first */
} cnn_cli;

/* Parses the command line, answers --help and --version, reports bad usage and sets the number of threads. False:
 * main returns *code. */
bool cnn_cli_begin(cnn_cli *cli, const cnn_tool *tool, void *settings, int argc, char **argv, int *code);

/* Reports a failure (cnn_last_error, as `cnn-train: sentence`) and what could not be written to standard output;
 * returns the exit code. With CNN_ERR_USAGE it adds "; try 'cnn-train --help'". */
int cnn_cli_end(cnn_cli *cli, cnn_status status);

/* Refuses devices that are not known; `several`: a list separated by commas is allowed. `option` is what they were
 * given to. */
cnn_status cnn_cli_check_devices(const char *option, const char *devices, bool several);

/* Shows, before long work, that a result can be written to `path`; leaves nothing there. */
cnn_status cnn_cli_check_output(const char *path);

/* Loads a data set from where --data-dir says, fetching it when it is missing, and passes its note and its warnings
 * on. Pictures are made into cli->form. name NULL: --data. The caller frees it with cnn_dataset_free. This and
 * the next are in cli/data.c. */
cnn_status cnn_cli_load_data(cnn_cli *cli, const char *name, cnn_subset subset, cnn_dataset **data);

/* The same for a model that was read from `path`: what --data names, else what the model was trained on; pictures are
 * made into its input. Data that do not suit it are refused. */
cnn_status cnn_cli_load_data_of(cnn_cli *cli, const cnn_model *model, const char *path, cnn_subset subset,
                                cnn_dataset **data);

#endif
