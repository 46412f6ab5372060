/* Backends that are loaded when asked for: libcnn-NAME.so, with the symbol that cnn/backend.h names. */
#ifndef CNN_CORE_PLUGIN_H
#define CNN_CORE_PLUGIN_H

#include "cnn/backend.h"

/* Loads the plug-in of that name, once; it stays loaded. It is looked for in $CNN_PLUGIN_DIR, beside the program, in
 * ../lib and ../lib/cnnkit from there, and where cnnkit is installed. The error says what is missing and what to do. */
cnn_status cnn_plugin_load(const char *name, const cnn_backend **backend);

/* Whether there is such a file. */
bool cnn_plugin_exists(const char *name);

/* GPUs that the NVIDIA driver of this machine sees; 0 without a driver. */
int cnn_plugin_gpus(void);

#endif
