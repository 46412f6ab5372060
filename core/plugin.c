/* Plug-ins: where they lie, loading them, and what to say when something is missing. */
#include "core/plugin.h"

#include "core/error.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef CNN_PLUGIN_FOLDER
#define CNN_PLUGIN_FOLDER "/usr/local/lib/cnnkit"
#endif

enum { PATH_BYTES = 4096, PLUGINS = 4 };

/* Plug-ins that were loaded. They are part of the registry of backends, and are never unloaded: libraries behind them
 * keep threads and exit handlers. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char name[32];
    const cnn_backend *backend;
} loaded[PLUGINS];

/* ---- Where ---- */

/* Folder of the running program, without a slash at the end; "" when the system does not tell. */
static void program_folder(char folder[PATH_BYTES])
{
    ssize_t length = readlink("/proc/self/exe", folder, PATH_BYTES - 1);
    folder[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
}

static bool try_path(const char *folder, const char *below, const char *name, char path[PATH_BYTES])
{
    int length = snprintf(path, PATH_BYTES, "%s%s/libcnn-%s.so", folder, below, name);
    return *folder && length > 0 && length < PATH_BYTES && access(path, R_OK) == 0;
}

static bool find_file(const char *name, char path[PATH_BYTES])
{
    static const char *const below[] = {"", "/../lib", "/../lib/cnnkit"};
    const char *chosen = getenv("CNN_PLUGIN_DIR");
    char folder[PATH_BYTES];
    if (chosen)
        return try_path(chosen, "", name, path);
    program_folder(folder);
    for (size_t i = 0; i < sizeof below / sizeof *below; i++)
        if (try_path(folder, below[i], name, path))
            return true;
    return try_path(CNN_PLUGIN_FOLDER, "", name, path);
}

bool cnn_plugin_exists(const char *name)
{
    char path[PATH_BYTES];
    return find_file(name, path);
}

/* ---- Loading ---- */

/* The dynamic linker's sentence begins with the library that it could not open: "libcudnn.so.9: cannot open ...". */
static cnn_status explain(const char *name, const char *sentence)
{
    size_t length = strcspn(sentence, ":");
    if (strstr(sentence, "cannot open shared object file") && strncmp(sentence, "libcnn", 6) != 0)
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "device %s: the library %.*s is missing; install NVIDIA's cuDNN 9 and cuBLAS, or name their "
                         "folders in LD_LIBRARY_PATH, or use --device cpu",
                         name, (int)length, sentence);
    return cnn_error(CNN_ERR_UNSUPPORTED, "device %s: its plug-in cannot be loaded: %s; use --device cpu", name,
                     sentence);
}

static cnn_status load(const char *name, const cnn_backend **backend)
{
    char path[PATH_BYTES];
    cnn_plugin_fn *entry = NULL;
    if (!find_file(name, path))
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "device %s: there is no libcnn-%s.so beside the tools: this build is for CPUs only; build it "
                         "where the CUDA toolkit and cuDNN are, or use --device cpu",
                         name, name);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return explain(name, dlerror());
    void *symbol = dlsym(library, CNN_PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from object to function pointers */
    if (!entry || entry()->version != CNN_BACKEND_VERSION) {
        dlclose(library);
        return cnn_error(CNN_ERR_UNSUPPORTED, "device %s: %s is not of this version of cnnkit; install both together",
                         name, path);
    }
    *backend = entry();
    return CNN_OK;
}

cnn_status cnn_plugin_load(const char *name, const cnn_backend **backend)
{
    cnn_status status = CNN_OK;
    int i = 0;
    pthread_mutex_lock(&lock);
    while (i < PLUGINS - 1 && loaded[i].backend && strcmp(loaded[i].name, name) != 0)
        i++;
    if (!loaded[i].backend) {
        status = load(name, &loaded[i].backend);
        if (status == CNN_OK)
            snprintf(loaded[i].name, sizeof loaded[i].name, "%s", name);
    }
    if (status == CNN_OK)
        *backend = loaded[i].backend;
    pthread_mutex_unlock(&lock);
    return status;
}

/* ---- Is there a GPU? ---- */

/* Asks the driver itself (cuInit, cuDeviceGetCount), which is there wherever a GPU can be used. */
int cnn_plugin_gpus(void)
{
    int (*init)(unsigned) = NULL, (*count)(int *) = NULL;
    int gpus = 0;
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!driver)
        return 0;
    void *init_symbol = dlsym(driver, "cuInit"), *count_symbol = dlsym(driver, "cuDeviceGetCount");
    memcpy(&init, &init_symbol, sizeof init);
    memcpy(&count, &count_symbol, sizeof count);
    if (!init || !count || init(0) != 0 || count(&gpus) != 0)
        gpus = 0;
    return gpus; /* the driver stays loaded: it keeps threads */
}
