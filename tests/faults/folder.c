/* The files of the current folder in memory. */
#include "tests/faults/folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_FILES = 64 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static fault_file read_file(const char *name, size_t size)
{
    fault_file file = {strdup(name), malloc(size + 1), size};
    FILE *in = fopen(name, "rb");
    if (!file.name || !file.bytes || !in || fread(file.bytes, 1, size, in) != size)
        die(name);
    fclose(in);
    return file;
}

fault_folder fault_folder_read(void)
{
    fault_folder folder = {calloc(MOST_FILES, sizeof *folder.files), 0};
    DIR *dir = opendir(".");
    if (!folder.files || !dir)
        die("this folder");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat info;
        if (lstat(entry->d_name, &info) != 0 || !S_ISREG(info.st_mode) || folder.count == MOST_FILES)
            continue;
        folder.files[folder.count++] = read_file(entry->d_name, (size_t)info.st_size);
    }
    closedir(dir);
    return folder;
}

void fault_folder_free(fault_folder *folder)
{
    for (int i = 0; i < folder->count; i++) {
        free(folder->files[i].name);
        free(folder->files[i].bytes);
    }
    free(folder->files);
    *folder = (fault_folder){NULL, 0};
}

const fault_file *fault_folder_find(const fault_folder *folder, const char *name)
{
    for (int i = 0; i < folder->count; i++)
        if (strcmp(folder->files[i].name, name) == 0)
            return &folder->files[i];
    return NULL;
}

bool fault_file_same(const fault_file *a, const fault_file *b)
{
    return a && b && a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

void fault_folder_restore(const fault_folder *wanted, const fault_folder *now)
{
    for (int i = 0; i < now->count; i++)
        if (!fault_folder_find(wanted, now->files[i].name) && unlink(now->files[i].name) != 0)
            die(now->files[i].name);
    for (int i = 0; i < wanted->count; i++) {
        const fault_file *file = &wanted->files[i];
        if (fault_file_same(file, fault_folder_find(now, file->name)))
            continue;
        FILE *out = fopen(file->name, "wb");
        if (!out || fwrite(file->bytes, 1, file->size, out) != file->size || fclose(out) != 0)
            die(file->name);
    }
}
