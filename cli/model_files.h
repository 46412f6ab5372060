/* Model files of any kind, by the ending of their name: .onnx, .safetensors, else .cnn. */
#ifndef CNN_CLI_MODEL_FILES_H
#define CNN_CLI_MODEL_FILES_H

#include "cli/cli.h"

/* Whether a path is that of a file which other tools read. */
bool cnn_cli_is_foreign(const char *path);

/* Whether it is that of a file of weights alone. */
bool cnn_cli_is_weights(const char *path);

/* Reads a model to change it; opens one that only runs. --normalize is for those that are foreign. */
cnn_status cnn_cli_load_model(cnn_cli *cli, const char *path, cnn_model **model);
cnn_status cnn_cli_open_model(cnn_cli *cli, const char *path, cnn_model **model);

/* Makes a network (a built-in name or a .cfg) with the weights of a .safetensors file. */
cnn_status cnn_cli_load_weights(cnn_cli *cli, const char *network, const char *path, cnn_model **model);

/* Writes a model; `pack` is for .cnn files. */
cnn_status cnn_cli_save_model(const cnn_model *model, const char *path, cnn_pack pack, size_t *bytes /* or NULL */);

/* Reads what cnn_cli_save_model wrote. */
cnn_status cnn_cli_load_saved(const char *path, cnn_model **model);

#endif
