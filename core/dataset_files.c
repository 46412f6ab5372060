/* Finds the files of a data set: folders, the NOTE beside them, fetching what is missing.
 *
 * Searched in this order: FOLDER/NAME, FOLDER, system places; before each of them the sub-folder of the layout, if it
 * has one. All files of a subset must lie in one folder. */
#include "core/dataset.h"

#include "core/error.h"
#include "core/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct system_place {
    const char *name, *folder;
} system_place;

static const system_place system_places[] = {
    {"fashion-mnist", "/usr/share/datasets/fashion-mnist"}, /* Debian's dataset-fashion-mnist */
    {"cifar10", "/usr/share/datasets/cifar10"},
};
enum { SYSTEM_PLACES = sizeof system_places / sizeof *system_places };

void cnn_dataset_files_free(cnn_dataset_files *files)
{
    for (int i = 0; i < CNN_DATASET_FILES; i++)
        free(files->path[i]);
    free(files->note);
    *files = (cnn_dataset_files){0};
}

/* The folder that data lie in. The caller frees it. */
static cnn_status data_folder(const cnn_dataset_options *options, char **folder)
{
    const char *named = options && options->dir ? options->dir : getenv("CNN_DATA");
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (named && *named)
        *folder = cnn_strdup(named);
    else if (cache && *cache)
        *folder = cnn_format("%s/cnnkit", cache);
    else if (home && *home)
        *folder = cnn_format("%s/.cache/cnnkit", home);
    else
        return cnn_error(CNN_ERR_USAGE,
                         "no folder for data: name one with --data-dir or in $CNN_DATA, since $HOME is not set");
    return *folder ? CNN_OK : CNN_ERR_MEMORY;
}

cnn_status cnn_dataset_find_file(const char *folder, const char *name, char **path)
{
    char *candidate = cnn_format("%s/%s", folder, name);
    if (!candidate)
        return CNN_ERR_MEMORY;
    if (access(candidate, F_OK) == 0)
        *path = candidate;
    else
        free(candidate);
    return CNN_OK;
}

/* The first line of folder/NOTE; *note stays NULL when there is none. */
static cnn_status read_note(const char *folder, char **note)
{
    char line[160] = "";
    char *path = cnn_format("%s/NOTE", folder);
    if (!path)
        return CNN_ERR_MEMORY;
    FILE *file = fopen(path, "r");
    cnn_status status =
        file || errno == ENOENT ? CNN_OK : cnn_error(CNN_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    free(path);
    if (!file)
        return status;
    bool some = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    if (some && *line) {
        *note = cnn_strdup(line);
        return *note ? CNN_OK : CNN_ERR_MEMORY;
    }
    return CNN_OK;
}

static cnn_status look_in(const cnn_dataset_layout *layout, const char *folder, cnn_subset subset,
                          cnn_dataset_files *files)
{
    cnn_status status = CNN_OK;
    cnn_dataset_files found = {0};
    CNN_TRY(layout->look_in(folder, subset, &found));
    if (found.path[0]) {
        CNN_TRY(read_note(folder, &found.note));
        *files = found;
        found = (cnn_dataset_files){0};
    }
out:
    cnn_dataset_files_free(&found);
    return status;
}

/* The same in its sub-folder first. */
static cnn_status look_below(const cnn_dataset_layout *layout, const char *folder, cnn_subset subset,
                             cnn_dataset_files *files)
{
    cnn_status status = CNN_OK;
    char *inner = NULL;
    if (layout->sub_folder) {
        inner = cnn_format("%s/%s", folder, layout->sub_folder);
        if (!inner)
            return CNN_ERR_MEMORY;
        CNN_TRY(look_in(layout, inner, subset, files));
    }
    if (!files->path[0])
        CNN_TRY(look_in(layout, folder, subset, files));
out:
    free(inner);
    return status;
}

/* Looks in every place; files->path[0] stays NULL when nothing is found. */
static cnn_status look(const char *name, const cnn_dataset_layout *layout, const char *folder, cnn_subset subset,
                       cnn_dataset_files *files)
{
    cnn_status status = CNN_OK;
    char *own = cnn_format("%s/%s", folder, name);
    if (!own)
        return CNN_ERR_MEMORY;
    CNN_TRY(look_below(layout, own, subset, files));
    if (!files->path[0])
        CNN_TRY(look_below(layout, folder, subset, files));
    for (int i = 0; i < SYSTEM_PLACES && !files->path[0]; i++)
        if (strcmp(system_places[i].name, name) == 0)
            CNN_TRY(look_below(layout, system_places[i].folder, subset, files));
out:
    free(own);
    return status;
}

/* Says what was looked for where, and which command gets it. `why`: of a fetch that failed, or "". */
static cnn_status missing(const char *name, const cnn_dataset_layout *layout, const char *folder, cnn_subset subset,
                          const char *why)
{
    const char *sub = layout->sub_folder, *system = "";
    for (int i = 0; i < SYSTEM_PLACES; i++)
        if (strcmp(system_places[i].name, name) == 0)
            system = system_places[i].folder;
    char *script = cnn_fetch_script();
    cnn_status status =
        cnn_error(CNN_ERR_IO, "%s is not there: looked for %s in %s/%s, %s%s%s%s%s%s;%s%s get them with: %s %s %s",
                  name, layout->wanted[subset == CNN_SUBSET_TEST], folder, name, folder, *system ? ", " : "", system,
                  sub ? " (each or its sub-folder " : "", sub ? sub : "", sub ? ")" : "", *why ? " " : "", why,
                  script ? script : "get-data", name, folder);
    free(script);
    return status;
}

cnn_status cnn_dataset_find(const char *name, const cnn_dataset_layout *layout, cnn_subset subset,
                            const cnn_dataset_options *options, cnn_dataset_files *files)
{
    cnn_status status = CNN_OK;
    char *why = NULL, *folder = NULL;
    *files = (cnn_dataset_files){0};
    CNN_TRY(data_folder(options, &folder));
    CNN_TRY(look(name, layout, folder, subset, files));
    if (!files->path[0] && options && options->fetch) {
        if (cnn_fetch(name, folder) != CNN_OK)
            why = cnn_format("%s;", cnn_last_error());
        CNN_TRY(look(name, layout, folder, subset, files));
    }
    if (!files->path[0])
        status = missing(name, layout, folder, subset, why ? why : "");
out:
    free(why);
    free(folder);
    return status;
}
