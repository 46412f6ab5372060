/* Random numbers, memory and bytes of mutators. */
#include "mutate.h"

#include "core/hash.h"

#include <math.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

uint64_t fuzz_next(fuzz_random *random)
{
    return cnn_splitmix64(random->state++);
}

uint64_t fuzz_below(fuzz_random *random, uint64_t count)
{
    return count ? fuzz_next(random) % count : 0;
}

uint64_t fuzz_number(fuzz_random *random, uint64_t old)
{
    const uint64_t near = fuzz_next(random) % 3;
    switch (fuzz_next(random) % 8) {
    case 0:
    case 1:
        return old + near - 1;
    case 2:
        return old * 2;
    case 3:
        return ((uint64_t)1 << fuzz_below(random, 64)) + near - 1;
    case 4:
        return fuzz_next(random) >> fuzz_below(random, 64);
    default:
        return fuzz_below(random, 9);
    }
}

float fuzz_float(fuzz_random *random, float old)
{
    static const float awkward[] = {0.0f,      -0.0f,  1.0f,   -1.0f,       1e-45f, 1.17549421e-38f, 1.17549435e-38f,
                                    3.4e38f,   0.001f, 127.0f, 16777216.0f, 1e-30f, 1e30f,           INFINITY,
                                    -INFINITY, NAN};
    const uint64_t i = fuzz_below(random, 2 * sizeof awkward / sizeof *awkward);
    if (i < sizeof awkward / sizeof *awkward)
        return awkward[i];
    return i % 2 ? old * 2 : (float)((double)(int64_t)fuzz_next(random) / 9.2e18);
}

enum { ARENA_BYTES = 1 << 25, MOST_COPY = 1 << 20 };
static alignas(16) uint8_t arena[ARENA_BYTES];
static size_t arena_used;

void fuzz_forget(void)
{
    arena_used = 0;
}

void *fuzz_block(size_t bytes)
{
    if (bytes > ARENA_BYTES - arena_used)
        abort();
    void *block = memset(arena + arena_used, 0, bytes);
    arena_used += (bytes + 15) / 16 * 16;
    arena_used = arena_used > ARENA_BYTES ? ARENA_BYTES : arena_used;
    return block;
}

fuzz_part fuzz_copy(const uint8_t *data, size_t bytes)
{
    fuzz_part part = {.data = fuzz_block(bytes ? bytes : 1), .bytes = bytes};
    if (bytes)
        memcpy(part.data, data, bytes);
    return part;
}

void fuzz_change(fuzz_part *part)
{
    enum { ROOM = 16 };
    fuzz_part more = {.data = fuzz_block(part->bytes + ROOM), .bytes = part->bytes};
    if (part->bytes)
        memcpy(more.data, part->data, part->bytes);
    more.bytes = LLVMFuzzerMutate(more.data, more.bytes, more.bytes + ROOM);
    *part = more;
}

void fuzz_resize(fuzz_part *part, size_t bytes)
{
    if (bytes > MOST_COPY || bytes == part->bytes)
        return;
    uint8_t *data = fuzz_block(bytes ? bytes : 1);
    for (size_t i = 0; i < bytes && part->bytes; i++)
        data[i] = part->data[i % part->bytes];
    *part = (fuzz_part){.data = data, .bytes = bytes};
}
