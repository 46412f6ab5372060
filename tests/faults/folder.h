/* The files of the current folder in memory: to compare, and to put back. */
#ifndef CNN_TESTS_FAULTS_FOLDER_H
#define CNN_TESTS_FAULTS_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct fault_file {
    char *name, *bytes;
    size_t size;
} fault_file;

typedef struct fault_folder {
    fault_file *files; /* [count] */
    int count;
} fault_folder;

/* Regular files of this folder; sub-folders are left out. Exits when it cannot. */
fault_folder fault_folder_read(void);
void fault_folder_free(fault_folder *folder);

const fault_file *fault_folder_find(const fault_folder *folder, const char *name); /* NULL: not there */
bool fault_file_same(const fault_file *a, const fault_file *b);                    /* either may be NULL */

/* Makes the folder, which holds `now`, what `wanted` says. */
void fault_folder_restore(const fault_folder *wanted, const fault_folder *now);

#endif
