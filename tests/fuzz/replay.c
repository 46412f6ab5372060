/* Runs a fuzz target without libFuzzer: over the files of a folder, then over changed copies of them.
 *
 *   replay_NAME FOLDER [CHANGES [plain]]
 *
 * Each of CHANGES rounds takes one file and lets the target's own mutator change it, up to four times over; or, where
 * it has none or with "plain", changes a few bytes, cuts it, or joins it with another. The numbers come from splitmix64
 * of the round, so a round that fails is found again by its number. */
#include "core/hash.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 256, MAX_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
__attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

typedef struct sample {
    uint8_t *data;
    size_t size;
} sample;

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(const char *folder, char **names)
{
    int count = 0;
    DIR *dir = opendir(folder);
    if (!dir)
        return 0;
    for (struct dirent *entry = readdir(dir); entry && count < MAX_FILES; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        names[count] = malloc(strlen(folder) + strlen(entry->d_name) + 2);
        sprintf(names[count++], "%s/%s", folder, entry->d_name);
    }
    closedir(dir);
    qsort(names, (size_t)count, sizeof *names, compare_names); /* the order of readdir is not the same everywhere */
    return count;
}

static sample read_sample(const char *path)
{
    sample s = {.data = malloc(MAX_BYTES)};
    FILE *file = fopen(path, "rb");
    if (!file || !s.data) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    s.size = fread(s.data, 1, MAX_BYTES, file);
    fclose(file);
    return s;
}

static uint64_t next(uint64_t *state)
{
    return cnn_splitmix64((*state)++);
}

/* What a mutator calls for changes that know nothing of the format; main sets the state for each round. */
static uint64_t byte_state;

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    const uint64_t kind = next(&byte_state) % 4;
    if (kind == 0)
        return (size_t)(next(&byte_state) % (size + 1));
    if (kind == 1)
        while (size < max_size && next(&byte_state) % 8)
            data[size++] = (uint8_t)next(&byte_state);
    for (uint64_t i = next(&byte_state) % 4; size && i < 5; i++) {
        size_t at = (size_t)(next(&byte_state) % size);
        data[at] =
            next(&byte_state) & 1 ? (uint8_t)next(&byte_state) : (uint8_t)(data[at] ^ (1u << (next(&byte_state) % 8)));
    }
    return size;
}

/* A changed copy in a block of exactly its size, so that a sanitizer sees any read beyond it. */
static sample change_bytes(const sample *samples, int count, uint64_t *state)
{
    const sample *from = &samples[next(state) % (uint64_t)count], *other = &samples[next(state) % (uint64_t)count];
    size_t keep = from->size, more = 0;
    uint64_t kind = next(state) % 4;
    if (kind == 0)
        keep = (size_t)(next(state) % (from->size + 1));
    if (kind == 1)
        more = other->size;
    sample s = {.size = keep + more, .data = malloc(keep + more ? keep + more : 1)};
    memcpy(s.data, from->data, keep);
    memcpy(s.data + keep, other->data, more);
    for (uint64_t i = next(state) % 4; s.size && kind != 0 && i < 5; i++) {
        size_t at = (size_t)(next(state) % s.size);
        s.data[at] = next(state) & 1 ? (uint8_t)next(state) : (uint8_t)(s.data[at] ^ (1u << (next(state) % 8)));
    }
    return s;
}

static sample change_parts(const sample *samples, int count, uint64_t *state)
{
    enum { ROOM = 1 << 16 };
    const sample *from = &samples[next(state) % (uint64_t)count];
    sample s = {.size = from->size, .data = malloc(from->size + ROOM)};
    memcpy(s.data, from->data, from->size);
    for (uint64_t i = next(state) % 4; i < 4; i++)
        s.size = LLVMFuzzerCustomMutator(s.data, s.size, from->size + ROOM, (unsigned int)next(state));
    uint8_t *exact = malloc(s.size ? s.size : 1);
    memcpy(exact, s.data, s.size);
    free(s.data);
    s.data = exact;
    return s;
}

int main(int argc, char **argv)
{
    static char *names[MAX_FILES];
    static sample samples[MAX_FILES];
    int count = argc > 1 ? read_names(argv[1], names) : 0;
    long rounds = argc > 2 ? atol(argv[2]) : 0;
    const bool own = LLVMFuzzerCustomMutator && !(argc > 3 && strcmp(argv[3], "plain") == 0);
    if (count == 0) {
        fprintf(stderr, "usage: replay FOLDER [CHANGES [plain]]; the folder must hold files\n");
        return 2;
    }
    for (int i = 0; i < count; i++) {
        samples[i] = read_sample(names[i]);
        LLVMFuzzerTestOneInput(samples[i].data, samples[i].size);
    }
    for (long round = 0; round < rounds; round++) {
        uint64_t state = (uint64_t)round << 20;
        byte_state = state ^ (UINT64_MAX << 60);
        sample s = own ? change_parts(samples, count, &state) : change_bytes(samples, count, &state);
        LLVMFuzzerTestOneInput(s.data, s.size);
        free(s.data);
    }
    printf("%d files and %ld changed copies\n", count, rounds);
    for (int i = 0; i < count; i++) {
        free(samples[i].data);
        free(names[i]);
    }
    return 0;
}
