/* Finds the files of a data set: folders, names, the NOTE beside them, fetching what is missing.
 *
 * Searched in this order: FOLDER/NAME, FOLDER, system places. Both files of a subset must lie in one folder. Each may
 * be called train-images-idx3-ubyte or train-images.idx3-ubyte, with or without .gz. */
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
};
enum { SYSTEM_PLACES = sizeof system_places / sizeof *system_places };

/* [subset][images, labels] */
static const char *const stems[2][2] = {{"train-images", "train-labels"}, {"t10k-images", "t10k-labels"}};
static const char *const kinds[2] = {"idx3-ubyte", "idx1-ubyte"};

void cnn_dataset_files_free(cnn_dataset_files *files)
{
    free(files->images);
    free(files->labels);
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

/* Finds images (kind 0) or labels (kind 1) in a folder. *path stays NULL when they are not there. */
static cnn_status find_file(const char *folder, cnn_subset subset, int kind, char **path)
{
    for (int form = 0; form < 4; form++) {
        char *candidate = cnn_format("%s/%s%s%s%s", folder, stems[subset == CNN_SUBSET_TEST][kind],
                                     form & 1 ? "." : "-", kinds[kind], form & 2 ? ".gz" : "");
        if (!candidate)
            return CNN_ERR_MEMORY;
        if (access(candidate, F_OK) == 0) {
            *path = candidate;
            return CNN_OK;
        }
        free(candidate);
    }
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

static cnn_status look_in(const char *folder, cnn_subset subset, cnn_dataset_files *files)
{
    cnn_status status = CNN_OK;
    cnn_dataset_files found = {0};
    CNN_TRY(find_file(folder, subset, 0, &found.images));
    CNN_TRY(find_file(folder, subset, 1, &found.labels));
    if (found.images && found.labels) {
        CNN_TRY(read_note(folder, &found.note));
        *files = found;
        found = (cnn_dataset_files){0};
    }
out:
    cnn_dataset_files_free(&found);
    return status;
}

/* Looks in every place; files->images stays NULL when nothing is found. */
static cnn_status look(const char *name, const char *folder, cnn_subset subset, cnn_dataset_files *files)
{
    cnn_status status = CNN_OK;
    char *own = cnn_format("%s/%s", folder, name);
    if (!own)
        return CNN_ERR_MEMORY;
    CNN_TRY(look_in(own, subset, files));
    if (!files->images)
        CNN_TRY(look_in(folder, subset, files));
    for (int i = 0; i < SYSTEM_PLACES && !files->images; i++)
        if (strcmp(system_places[i].name, name) == 0)
            CNN_TRY(look_in(system_places[i].folder, subset, files));
out:
    free(own);
    return status;
}

/* Says what was looked for where, and which command gets it. `why`: of a fetch that failed, or "". */
static cnn_status missing(const char *name, const char *folder, cnn_subset subset, const char *why)
{
    const char *const *stem = stems[subset == CNN_SUBSET_TEST];
    const char *system = "";
    for (int i = 0; i < SYSTEM_PLACES; i++)
        if (strcmp(system_places[i].name, name) == 0)
            system = system_places[i].folder;
    char *script = cnn_fetch_script();
    cnn_status status = cnn_error(
        CNN_ERR_IO,
        "%s is not there: looked for %s-%s and %s-%s (plain or .gz) in %s/%s, %s%s%s;%s%s get them with: %s %s %s",
        name, stem[0], kinds[0], stem[1], kinds[1], folder, name, folder, *system ? ", " : "", system, *why ? " " : "",
        why, script ? script : "get-data", name, folder);
    free(script);
    return status;
}

cnn_status cnn_dataset_find(const char *name, cnn_subset subset, const cnn_dataset_options *options,
                            cnn_dataset_files *files)
{
    cnn_status status = CNN_OK;
    char *why = NULL, *folder = NULL;
    *files = (cnn_dataset_files){0};
    CNN_TRY(data_folder(options, &folder));
    CNN_TRY(look(name, folder, subset, files));
    if (!files->images && options && options->fetch) {
        if (cnn_fetch(name, folder) != CNN_OK)
            why = cnn_format("%s;", cnn_last_error());
        CNN_TRY(look(name, folder, subset, files));
    }
    if (!files->images)
        status = missing(name, folder, subset, why ? why : "");
out:
    free(why);
    free(folder);
    return status;
}
