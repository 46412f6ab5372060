/* Listing pictures in folders. Everything is sorted by name, so that it does not matter in which order a file system
 * gives its entries. */
#include "core/picture_list.h"

#include "core/class_names.h"
#include "core/error.h"
#include "core/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* Which pictures are the test part follows from this and their place in the sorted list. */
enum { TEST_PART_SEED = 20261 };

/* The names in a folder, sorted; those that begin with a dot are left out. */
typedef struct entries {
    char **names;
    size_t count, capacity;
} entries;

static void entries_free(entries *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
    *list = (entries){0};
}

/* Doubles a list that is full. */
static cnn_status make_room(void **items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return CNN_OK;
    size_t larger = *capacity ? 2 * *capacity : 64;
    void *grown = cnn_realloc(*items, larger, size);
    if (!grown)
        return CNN_ERR_MEMORY;
    *items = grown;
    *capacity = larger;
    return CNN_OK;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static cnn_status entries_read(const char *folder, entries *list)
{
    cnn_status status = CNN_OK;
    void *names = NULL;
    *list = (entries){0};
    DIR *dir = opendir(folder);
    if (!dir && (errno == ENOENT || errno == ENOTDIR))
        return cnn_error(CNN_ERR_IO, "%s: is no folder; name one with a sub-folder for each class", folder);
    if (!dir)
        return cnn_error(CNN_ERR_IO, "%s: cannot be opened: %s; check its permissions", folder, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno)
            CNN_FAIL(CNN_ERR_IO, "%s: cannot be read: %s; check the disk", folder, strerror(errno));
        if (!entry)
            break;
        if (entry->d_name[0] == '.')
            continue;
        names = list->names;
        CNN_TRY(make_room(&names, list->count, &list->capacity, sizeof *list->names));
        list->names = names;
        if (!(list->names[list->count] = cnn_strdup(entry->d_name)))
            CNN_TRY(CNN_ERR_MEMORY);
        list->count++;
    }
    if (list->count)
        qsort(list->names, list->count, sizeof *list->names, by_bytes);
out:
    closedir(dir);
    if (status != CNN_OK)
        entries_free(list);
    return status;
}

typedef enum entry_kind { ENTRY_FILE, ENTRY_FOLDER, ENTRY_OTHER } entry_kind;

/* What a path leads to. A link that leads nowhere counts as a file: reading it will tell. */
static entry_kind kind_of(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return ENTRY_FILE;
    return S_ISDIR(info.st_mode) ? ENTRY_FOLDER : S_ISREG(info.st_mode) ? ENTRY_FILE : ENTRY_OTHER;
}

static bool is_png_name(const char *name)
{
    size_t length = strlen(name);
    return length > 4 && strcasecmp(name + length - 4, ".png") == 0;
}

/* ---- Classes ---- */

static cnn_status check_classes(const char *folder, const cnn_picture_list *list)
{
    if (list->classes == 0)
        return cnn_error(CNN_ERR_FORMAT,
                         "%s: has no sub-folder; put the pictures of each class into one that is named like the class",
                         folder);
    if (list->classes == 1)
        return cnn_error(CNN_ERR_FORMAT, "%s: has only one sub-folder, '%s'; at least two classes are needed", folder,
                         list->class_names[0]);
    for (int32_t i = 0; i < list->classes; i++) {
        const char *problem = cnn_class_name_problem(list->class_names[i]);
        if (problem)
            return cnn_error(CNN_ERR_FORMAT, "%s: the name of its sub-folder '%s' %s; rename it", folder,
                             list->class_names[i], problem);
    }
    return CNN_OK;
}

/* The sub-folders of `folder` become the classes. */
static cnn_status list_classes(const char *folder, cnn_picture_list *list)
{
    cnn_status status = CNN_OK;
    entries found;
    CNN_TRY(entries_read(folder, &found));
    size_t kept = 0;
    for (size_t i = 0; i < found.count; i++) {
        char *path = cnn_format("%s/%s", folder, found.names[i]);
        if (!path)
            CNN_TRY(CNN_ERR_MEMORY);
        bool is_class = kind_of(path) == ENTRY_FOLDER;
        free(path);
        list->ignored += !is_class;
        if (is_class) { /* to the front, so that all are still there to be freed */
            char *name = found.names[i];
            found.names[i] = found.names[kept];
            found.names[kept++] = name;
        }
    }
    if (kept > CNN_MAX_CLASSES)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: has %zu sub-folders, but at most %d classes can be told apart", folder, kept,
                 CNN_MAX_CLASSES);
    list->classes = (int32_t)kept;
    list->class_names = cnn_class_names_copy(found.names, list->classes);
    if (!list->class_names)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(check_classes(folder, list));
out:
    entries_free(&found);
    return status;
}

/* Refuses a sub-folder of the test part that is none of the training part's. */
static cnn_status check_test_classes(const char *folder, const cnn_picture_list *list)
{
    cnn_status status = CNN_OK;
    entries found;
    CNN_TRY(entries_read(folder, &found));
    for (size_t i = 0; i < found.count; i++) {
        char *path = cnn_format("%s/%s", folder, found.names[i]);
        if (!path)
            CNN_TRY(CNN_ERR_MEMORY);
        bool known = kind_of(path) != ENTRY_FOLDER;
        free(path);
        for (int32_t k = 0; k < list->classes && !known; k++)
            known = strcmp(list->class_names[k], found.names[i]) == 0;
        if (!known)
            CNN_FAIL(CNN_ERR_FORMAT, "%s/%s: is no class of the training part, which has no such sub-folder", folder,
                     found.names[i]);
    }
out:
    entries_free(&found);
    return status;
}

/* ---- Pictures ---- */

/* Takes over `path`. */
static cnn_status add(cnn_picture_list *list, char *path, int32_t label)
{
    size_t capacity = (size_t)list->capacity;
    void *files = list->files;
    cnn_status status = list->count == INT32_MAX / 2
                            ? cnn_error(CNN_ERR_FORMAT, "%s: is one picture too many", path)
                            : make_room(&files, (size_t)list->count, &capacity, sizeof *list->files);
    if (status != CNN_OK) {
        free(path);
        return status;
    }
    list->files = files;
    list->capacity = (int32_t)capacity;
    list->files[list->count++] = (cnn_picture_file){path, (uint8_t)label};
    return CNN_OK;
}

/* Adds the pictures of a class; its folder may be missing in a test part. */
static cnn_status list_pictures(const char *folder, int32_t label, bool may_be_missing, cnn_picture_list *list)
{
    cnn_status status = CNN_OK;
    entries found = {0};
    struct stat info;
    char *path = cnn_format("%s/%s", folder, list->class_names[label]);
    if (!path)
        return CNN_ERR_MEMORY;
    if (may_be_missing && stat(path, &info) != 0 && errno == ENOENT)
        goto out;
    CNN_TRY(entries_read(path, &found));
    for (size_t i = 0; i < found.count; i++) {
        char *file = cnn_format("%s/%s", path, found.names[i]);
        if (!file)
            CNN_TRY(CNN_ERR_MEMORY);
        if (is_png_name(found.names[i]) && kind_of(file) == ENTRY_FILE) {
            CNN_TRY(add(list, file, label));
        } else {
            free(file);
            list->ignored++;
        }
    }
out:
    entries_free(&found);
    free(path);
    return status;
}

/* Keeps the files of `index` [count], which ascends. */
static void keep(cnn_picture_list *list, const int32_t *index, int32_t count)
{
    int32_t next = 0;
    for (int32_t i = 0; i < list->count; i++)
        if (next < count && index[next] == i)
            list->files[next++] = list->files[i];
        else
            free(list->files[i].path);
    list->count = count;
}

/* Leaves the training or the test part of all pictures. */
static cnn_status take_part(const char *folder, cnn_subset subset, cnn_picture_list *list)
{
    cnn_status status = CNN_OK;
    cnn_split split = {0};
    cnn_dataset all = {.count = list->count, .labels = cnn_calloc((size_t)list->count, 1)};
    if (!all.labels)
        return CNN_ERR_MEMORY;
    for (int32_t i = 0; i < list->count; i++)
        all.labels[i] = list->files[i].label;
    CNN_TRY(cnn_dataset_split(&all, TEST_PART_SEED, &split));
    if (split.validation_count == 0)
        CNN_FAIL(
            CNN_ERR_FORMAT,
            "%s: a tenth of the pictures is for testing, but it has only %d in all; add more, or put pictures into "
            "%s/train and %s/test",
            folder, list->count, folder, folder);
    if (subset == CNN_SUBSET_TEST)
        keep(list, split.validation, split.validation_count);
    else
        keep(list, split.train, split.train_count);
out:
    cnn_split_free(&split);
    free(all.labels);
    return status;
}

/* Every class has a picture to train on. */
static cnn_status check_pictures(const char *folder, const cnn_picture_list *list)
{
    int32_t counts[CNN_MAX_CLASSES] = {0};
    for (int32_t i = 0; i < list->count; i++)
        counts[list->files[i].label]++;
    for (int32_t k = 0; k < list->classes; k++)
        if (counts[k] == 0)
            return cnn_error(CNN_ERR_FORMAT,
                             "%s/%s: there is no PNG picture to train on; add some, or remove the folder", folder,
                             list->class_names[k]);
    return CNN_OK;
}

/* Lists `folder`, whose parts are `train` and `test`, or the same path when it has none. */
static cnn_status list_part(const char *folder, const char *train, const char *test, cnn_subset subset,
                            cnn_picture_list *list)
{
    cnn_status status = CNN_OK;
    bool parts = strcmp(train, test) != 0, testing = parts && subset == CNN_SUBSET_TEST;
    CNN_TRY(list_classes(train, list));
    if (parts)
        CNN_TRY(check_test_classes(test, list));
    for (int32_t k = 0; k < list->classes; k++)
        CNN_TRY(list_pictures(testing ? test : train, k, testing, list));
    if (!testing)
        CNN_TRY(check_pictures(train, list));
    if (!parts)
        CNN_TRY(take_part(folder, subset, list));
    if (!parts && subset == CNN_SUBSET_TRAIN)
        CNN_TRY(check_pictures(train, list));
    if (list->count == 0)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: there is no PNG picture in the folders of its classes", testing ? test : train);
out:
    return status;
}

cnn_status cnn_picture_list_read(const char *folder, cnn_subset subset, cnn_picture_list *list)
{
    cnn_status status = CNN_OK;
    struct stat info;
    *list = (cnn_picture_list){0};
    char *train = cnn_format("%s/train", folder), *test = cnn_format("%s/test", folder);
    if (!train || !test)
        CNN_TRY(CNN_ERR_MEMORY);
    bool parts = stat(train, &info) == 0 && S_ISDIR(info.st_mode) && stat(test, &info) == 0 && S_ISDIR(info.st_mode);
    CNN_TRY(list_part(folder, parts ? train : folder, parts ? test : folder, subset, list));
out:
    free(train);
    free(test);
    if (status != CNN_OK)
        cnn_picture_list_free(list);
    return status;
}

void cnn_picture_list_free(cnn_picture_list *list)
{
    for (int32_t i = 0; i < list->count; i++)
        free(list->files[i].path);
    free(list->files);
    free(list->class_names);
    *list = (cnn_picture_list){0};
}
