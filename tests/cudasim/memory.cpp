/* Device and pinned memory: blocks between inaccessible pages, fills, checks of ranges; cudaMalloc and its kin.
 *
 * A block of n bytes, with e = n rounded up to 256:
 *
 *     [guard page][edge ............][n bytes][edge: e - n][guard page]
 *                 ^ map, page aligned                      ^ page aligned
 *
 * Edges hold EDGE and are checked when the device has worked; beyond them any access is a fault. A fault in a block's
 * reach is told in one sentence. */
#include "tests/cudasim/runtime.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <sys/mman.h>

namespace
{

constexpr size_t PAGE = 4096, UNIT = 256, DEFAULT_MEMORY = size_t{16} << 30;
constexpr size_t QUARANTINED_BLOCKS = 8192;
constexpr unsigned char EDGE = 0xED;

struct block {
    unsigned char *map, *data;
    size_t map_bytes, bytes; /* map_bytes without the guard pages */
    bool pinned, freed;
    int device;
};

struct memory {
    std::map<const unsigned char *, block> blocks; /* by data, freed ones too */
    std::deque<const unsigned char *> freed;       /* oldest first */
    size_t used = 0, limit = DEFAULT_MEMORY;
    int working = 0;
    bool tame = false;
    memory()
    {
        const char *fill_name = getenv("CNN_CUDASIM_FILL"), *bytes = getenv("CNN_CUDASIM_MEMORY");
        tame = fill_name && strcmp(fill_name, "tame") == 0;
        limit = bytes ? strtoull(bytes, nullptr, 10) : DEFAULT_MEMORY;
    }
};

memory &mine()
{
    static memory *const made = new memory;
    return *made;
}

size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

/* ---- Faults ---- */

/* The block that an address lies in or next to, NULL: none. */
const block *block_near(const unsigned char *address)
{
    for (const auto &entry : mine().blocks)
        if (address >= entry.second.map - PAGE && address < entry.second.map + entry.second.map_bytes + PAGE)
            return &entry.second;
    return nullptr;
}

void on_fault(int signal, siginfo_t *info, void *)
{
    const auto *address = static_cast<const unsigned char *>(info->si_addr);
    const block *near = block_near(address);
    if (!near) { /* not ours: the default action, on return */
        struct sigaction action = {};
        action.sa_handler = SIG_DFL;
        sigaction(signal, &action, nullptr);
        return;
    }
    const char *who = mine().working ? "the device" : "the host";
    const char *what = near->pinned ? "pinned" : "device";
    if (near->freed)
        cudasim_report("%s touched %s memory at %p, in a block of %zu bytes that was freed", who, what, info->si_addr,
                       near->bytes);
    if (address >= near->data + near->bytes)
        cudasim_report("%s touched %s memory at %p, %zu bytes behind the end of a block of %zu bytes", who, what,
                       info->si_addr, static_cast<size_t>(address - near->data) - near->bytes, near->bytes);
    if (address < near->data)
        cudasim_report("%s touched %s memory at %p, %td bytes before a block of %zu bytes", who, what, info->si_addr,
                       near->data - address, near->bytes);
    cudasim_report("%s touched device memory at %p, byte %td of a block of %zu bytes, while no kernel ran", who,
                   info->si_addr, address - near->data, near->bytes);
}

/* On a stack of its own: a fiber's may be what overflowed. */
void catch_faults()
{
    static bool caught = false;
    static unsigned char stack[1 << 16];
    if (caught)
        return;
    caught = true;
    stack_t alternative = {};
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}

/* ---- Fills ---- */

/* The fill of the word at an address: 4 x 5 bits of a hash of it, in halves 0xff81..0xfffd (NaN as f16, bf16 and, two
 * of them, as f32; never all ones, which programs do write), or tame ones 0x3c81..0x3cfd (about 1.1 as f16, 0.016 as
 * bf16 and f32). */
uint64_t fill_of(const unsigned char *address)
{
    uint64_t hash = reinterpret_cast<uintptr_t>(address) * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t word = mine().tame ? UINT64_C(0x3c813c813c813c81) : UINT64_C(0xff81ff81ff81ff81);
    return word | (hash >> 9 & UINT64_C(0x007c007c007c007c));
}

void fill(unsigned char *data, size_t bytes)
{
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t word = fill_of(data + i);
        memcpy(data + i, &word, sizeof word);
    }
    memset(data + i, mine().tame ? 0x3c : 0xff, bytes - i);
}

/* ---- Blocks ---- */

block *map_block(size_t bytes, bool pinned)
{
    const size_t rounded = round_up(bytes, UNIT), map_bytes = round_up(rounded, PAGE);
    void *map = mmap(nullptr, map_bytes + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return nullptr;
    auto *start = static_cast<unsigned char *>(map) + PAGE;
    if (mprotect(start, map_bytes, PROT_READ | PROT_WRITE) != 0) {
        munmap(map, map_bytes + 2 * PAGE);
        return nullptr;
    }
    unsigned char *data = start + map_bytes - rounded;
    memset(start, EDGE, static_cast<size_t>(data - start));
    memset(data + bytes, EDGE, rounded - bytes);
    fill(data, bytes);
    if (!pinned && !mine().working)
        mprotect(start, map_bytes, PROT_NONE);
    block &made = mine().blocks[data];
    made = {start, data, map_bytes, bytes, pinned, false, cudasim_device()};
    return &made;
}

/* Device blocks must be accessible. */
void check_edges(const block &b)
{
    for (const unsigned char *p = b.map; p < b.data; p++)
        if (*p != EDGE)
            cudasim_report("the device wrote %td bytes before a block of %zu bytes of %s memory", b.data - p, b.bytes,
                           b.pinned ? "pinned" : "device");
    for (const unsigned char *p = b.data + b.bytes; p < b.map + b.map_bytes; p++)
        if (*p != EDGE)
            cudasim_report("the device wrote %td bytes behind the end of a block of %zu bytes of %s memory",
                           p - (b.data + b.bytes), b.bytes, b.pinned ? "pinned" : "device");
}

/* Gives the pages back and keeps the addresses; the oldest ones go when there are many. */
void quarantine(block &b)
{
    memory &m = mine();
    b.freed = true;
    mmap(b.map, b.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    m.freed.push_back(b.data);
    if (m.freed.size() > QUARANTINED_BLOCKS) {
        auto oldest = m.blocks.find(m.freed.front());
        munmap(oldest->second.map - PAGE, oldest->second.map_bytes + 2 * PAGE);
        m.blocks.erase(oldest);
        m.freed.pop_front();
    }
}

/* The block that holds an address, edges and guards included. */
const block *block_of(const void *memory)
{
    const auto *address = static_cast<const unsigned char *>(memory);
    auto after = mine().blocks.upper_bound(address);
    if (after != mine().blocks.end() && address >= after->second.map - PAGE)
        return &after->second;
    if (after == mine().blocks.begin())
        return nullptr;
    const block &before = std::prev(after)->second;
    return address < before.map + before.map_bytes + PAGE ? &before : nullptr;
}

cudaError_t new_block(void **memory_out, size_t bytes, bool pinned)
{
    memory &m = mine();
    *memory_out = nullptr;
    if (cudasim_spoil_capture())
        return cudasim_fail(cudaErrorStreamCaptureUnsupported);
    if (cudasim_broken() != cudaSuccess)
        return cudasim_fail(cudasim_broken());
    if (bytes == 0)
        return cudaSuccess;
    const size_t rounded = round_up(bytes, UNIT);
    if (cudasim_refuse() || rounded < bytes || (!pinned && (rounded > m.limit || m.used > m.limit - rounded)))
        return cudasim_fail(cudaErrorMemoryAllocation);
    catch_faults();
    block *made = map_block(bytes, pinned);
    if (!made)
        return cudasim_fail(cudaErrorMemoryAllocation);
    m.used += pinned ? 0 : rounded;
    cudasim_add(pinned ? CUDASIM_PINNED_MEMORY : CUDASIM_DEVICE_MEMORY, made->data, cudasim_device());
    *memory_out = made->data;
    return cudaSuccess;
}

/* Freeing waits for the device, as CUDA does. */
cudaError_t free_block(void *data, bool pinned, const char *call)
{
    if (!data)
        return cudaSuccess;
    if (cudasim_spoil_capture())
        return cudasim_fail(cudaErrorStreamCaptureUnsupported);
    auto found = mine().blocks.find(static_cast<unsigned char *>(data));
    if (found == mine().blocks.end() || found->second.pinned != pinned)
        cudasim_report("%s: %p is not the start of a block of %s memory", call, data, pinned ? "pinned" : "device");
    if (found->second.freed)
        cudasim_report("%s: the block at %p was freed before", call, data);
    cudasim_drain();
    {
        cudasim_working working;
        check_edges(found->second);
    }
    cudasim_remove(pinned ? CUDASIM_PINNED_MEMORY : CUDASIM_DEVICE_MEMORY, data, call);
    mine().used -= pinned ? 0 : round_up(found->second.bytes, UNIT);
    quarantine(found->second);
    return cudasim_broken();
}

} // namespace

/* ---- For the runtime ---- */

cudasim_place cudasim_find(const void *memory, size_t bytes, const char *call)
{
    const auto *first = static_cast<const unsigned char *>(memory);
    const block *b = block_of(memory);
    if (!b)
        return CUDASIM_PAGEABLE;
    const char *what = b->pinned ? "pinned" : "device";
    if (b->freed)
        cudasim_report("%s: %p lies in %s memory that was freed", call, memory, what);
    if (first < b->data || first > b->data + b->bytes || bytes > static_cast<size_t>(b->data + b->bytes - first))
        cudasim_report("%s: %zu bytes at byte %td of a block of %zu bytes of %s memory", call, bytes, first - b->data,
                       b->bytes, what);
    return b->pinned ? CUDASIM_PINNED : CUDASIM_ON_DEVICE;
}

void cudasim_need_device(const void *memory, size_t bytes, const char *call)
{
    if (!memory && bytes == 0)
        return;
    if (cudasim_find(memory, bytes, call) == CUDASIM_PAGEABLE)
        cudasim_report("%s: %p is not device memory", call, memory);
}

void cudasim_need_written(const void *memory, size_t bytes, const char *call)
{
    const auto *first = static_cast<const unsigned char *>(memory);
    const size_t skip = -reinterpret_cast<uintptr_t>(first) % 8;
    const block *b = block_of(memory);
    if (!b)
        return;
    for (size_t i = skip; i + 8 <= bytes; i += 8) {
        uint64_t word;
        memcpy(&word, first + i, sizeof word);
        if (word == fill_of(first + i))
            cudasim_report("%s: reads byte %zu of %zu at %p (byte %td of a block of %zu), which was never written",
                           call, i, bytes, memory, first + i - b->data, b->bytes);
    }
}

void cudasim_unwrite(void *memory, size_t bytes)
{
    fill(static_cast<unsigned char *>(memory), bytes);
}

cudasim_working::cudasim_working()
{
    if (mine().working++ > 0)
        return;
    for (auto &entry : mine().blocks)
        if (!entry.second.pinned && !entry.second.freed)
            mprotect(entry.second.map, entry.second.map_bytes, PROT_READ | PROT_WRITE);
}

cudasim_working::~cudasim_working()
{
    if (mine().working > 1) {
        mine().working--;
        return;
    }
    for (auto &entry : mine().blocks)
        if (!entry.second.freed) {
            check_edges(entry.second);
            if (!entry.second.pinned)
                mprotect(entry.second.map, entry.second.map_bytes, PROT_NONE);
        }
    mine().working--;
}

/* ---- For tests ---- */

void cudasim_set_memory(size_t bytes)
{
    CUDASIM_LOCKED;
    mine().limit = bytes ? bytes : DEFAULT_MEMORY;
}

void cudasim_set_tame(int tame)
{
    CUDASIM_LOCKED;
    mine().tame = tame != 0;
}

/* ---- CUDA ---- */

cudaError_t cudaMalloc(void **memory_out, size_t bytes)
{
    CUDASIM_LOCKED;
    return new_block(memory_out, bytes, false);
}

cudaError_t cudaFree(void *data)
{
    CUDASIM_LOCKED;
    return free_block(data, false, "cudaFree");
}

cudaError_t cudaHostAlloc(void **memory_out, size_t bytes, unsigned int flags)
{
    CUDASIM_LOCKED;
    if (flags & ~static_cast<unsigned>(cudaHostAllocPortable | cudaHostAllocMapped))
        cudasim_report("cudaHostAlloc: flags 0x%x are not modelled", flags);
    return new_block(memory_out, bytes, true);
}

cudaError_t cudaFreeHost(void *data)
{
    CUDASIM_LOCKED;
    return free_block(data, true, "cudaFreeHost");
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    CUDASIM_LOCKED;
    *total_bytes = mine().limit;
    *free_bytes = mine().limit > mine().used ? mine().limit - mine().used : 0;
    return cudasim_fail(cudasim_broken());
}
