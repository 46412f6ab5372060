/* The files of the current folder in memory: to compare, and to put back. */
#ifndef CNN_TESTS_OOM_FOLDER_H
#define CNN_TESTS_OOM_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct oom_file {
    char *name, *bytes;
    size_t size;
} oom_file;

typedef struct oom_folder {
    oom_file *files; /* [count] */
    int count;
} oom_folder;

/* Regular files of this folder; sub-folders are left out. Exits when it cannot. */
oom_folder oom_folder_read(void);
void oom_folder_free(oom_folder *folder);

const oom_file *oom_folder_find(const oom_folder *folder, const char *name); /* NULL: not there */
bool oom_file_same(const oom_file *a, const oom_file *b);                    /* either may be NULL */

/* Makes the folder, which holds `now`, what `wanted` says. */
void oom_folder_restore(const oom_folder *wanted, const oom_folder *now);

#endif
