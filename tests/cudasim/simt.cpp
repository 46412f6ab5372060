/* Runs CUDA kernels on the CPU: fibers, the schedules, barriers and operations of warps. See simt.h.
 *
 * A block starts with all of its threads NEW. A fiber takes a thread and runs it; when that ends, it takes the next
 * that the schedule names, if that is NEW too: threads that never wait share one fiber and cost no switch. A thread
 * that waits switches straight to the next one, on another fiber. A waiting thread is not looked at until who completes
 * the barrier or the operation makes it READY, so that a state without NEW or READY threads is a deadlock. */
#include "tests/cudasim/simt.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#ifdef SIMT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SIMT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if !defined(__x86_64__) && !defined(SIMT_UCONTEXT)
#define SIMT_UCONTEXT 1
#endif
#ifdef SIMT_UCONTEXT
#include <ucontext.h>
#endif

simt_place simt_now;
unsigned char *simt_dynamic;

/* The section of static shared memory; absent when no kernel has any. */
extern "C" {
extern char simt_shared_start[] __asm__("__start_simt_shared") __attribute__((weak, visibility("hidden")));
extern char simt_shared_stop[] __asm__("__stop_simt_shared") __attribute__((weak, visibility("hidden")));
}

namespace
{

enum { WARP = 32, MAX_THREADS = 1024, POISON = 0xCD, GUARD = 0xA5 };
#ifdef SIMT_ASAN
enum { GUARD_BYTES = 0 }; /* its own red zones are better: they tell who wrote */
#else
enum { GUARD_BYTES = 128 };
#endif
constexpr size_t STACK_BYTES = size_t{256} << 10; /* of address space; pages appear when they are touched */
constexpr size_t PAGE_BYTES = 4096;
constexpr size_t DEFAULT_SHARED_BYTES = size_t{48} << 10, MAX_SHARED_BYTES = size_t{227} << 10;

enum thread_state { NEW, READY, AT_BARRIER, AT_WARP, DONE };

struct fiber {
#ifdef SIMT_UCONTEXT
    ucontext_t context;
#else
    void *stack_pointer;
#endif
    void *stack; /* NULL: the stack that launches kernels */
    size_t stack_bytes;
    void *fake_stack; /* AddressSanitizer's */
    void *tsan_fiber; /* ThreadSanitizer's */
    fiber *next_free;
};

struct thread {
    thread_state state;
    unsigned number;
    fiber *on;
    simt_site site; /* where it waits */
    uint32_t mask;  /* AT_WARP: for whom */
    void *operand;  /* AT_WARP */
    int result;     /* of the last barrier */
};

struct block_state {
    const char *kernel;
    const std::function<void()> *body;
    std::vector<thread> threads;
    std::vector<unsigned> order; /* threads as the schedule takes them */
    unsigned count, live, runnable;
    unsigned warp_runnable[MAX_THREADS / WARP];
    unsigned cursor; /* index into order of the thread that runs */
    unsigned arrived;
    const thread *first_arrived;
    int votes;
    bool waited; /* some thread of this block has waited */
};

int schedule = SIMT_ROUNDS;
uint64_t random_state = 1;
block_state block;
thread *current;
fiber launcher;
fiber *free_fibers;

/* ---- Messages ---- */

uint3 index_of(unsigned number)
{
    const dim3 &dim = simt_now.block_dim;
    return make_uint3(number % dim.x, number / dim.x % dim.y, number / (dim.x * dim.y));
}

[[noreturn]] void fail_at(const thread *at, const char *format, va_list args)
{
    uint3 index = index_of(at ? at->number : 0);
    fprintf(stderr, "simt: kernel %s, block (%u,%u,%u), thread (%u,%u,%u): ", block.kernel, simt_now.block.x,
            simt_now.block.y, simt_now.block.z, index.x, index.y, index.z);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    abort();
}

[[noreturn]] void fail(const thread *at, const char *format, ...) __attribute__((format(printf, 2, 3)));

[[noreturn]] void fail(const thread *at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail_at(at, format, args);
}

/* Nobody can go on: says why. */
[[noreturn]] void diagnose()
{
    const thread *barrier = nullptr, *warp = nullptr, *done = nullptr;
    for (unsigned i = 0; i < block.count; i++) {
        const thread *t = &block.threads[i];
        if (t->state == AT_BARRIER && !barrier)
            barrier = t;
        if (t->state == AT_WARP && !warp)
            warp = t;
        if (t->state == DONE && !done)
            done = t;
    }
    if (barrier && warp) {
        uint3 other = index_of(warp->number);
        fail(barrier, "deadlock: it waits at %s (%s:%d) and thread (%u,%u,%u) for lanes 0x%08x at %s (%s:%d)",
             barrier->site.what, barrier->site.file, barrier->site.line, other.x, other.y, other.z, warp->mask,
             warp->site.what, warp->site.file, warp->site.line);
    }
    if (barrier) {
        uint3 other = index_of(done->number);
        fail(barrier, "divergent barrier: it waits at %s (%s:%d), and thread (%u,%u,%u) has left the kernel",
             barrier->site.what, barrier->site.file, barrier->site.line, other.x, other.y, other.z);
    }
    fail(warp, "deadlock: it waits for lanes 0x%08x at %s (%s:%d), and not all of them come", warp->mask,
         warp->site.what, warp->site.file, warp->site.line);
}

/* Equal names may lie at two addresses when they are of two files. */
bool same_place(const simt_site &a, const simt_site &b)
{
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

/* ---- The schedules ---- */

uint64_t random_next() /* splitmix64 */
{
    uint64_t z = (random_state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

void shuffle(std::vector<unsigned> &order, unsigned count)
{
    for (unsigned i = count; i > 1; i--)
        std::swap(order[i - 1], order[random_next() % i]);
}

bool greedy()
{
    return schedule == SIMT_GREEDY || schedule == SIMT_GREEDY_REVERSED;
}

bool reversed()
{
    return schedule == SIMT_REVERSE || schedule == SIMT_GREEDY_REVERSED;
}

bool can_run(const thread &t)
{
    return t.state == NEW || t.state == READY;
}

void set_state(thread *t, thread_state state)
{
    bool before = can_run(*t);
    t->state = state;
    bool after = can_run(*t);
    if (before == after)
        return;
    block.runnable = after ? block.runnable + 1 : block.runnable - 1;
    unsigned &of_warp = block.warp_runnable[t->number / WARP];
    of_warp = after ? of_warp + 1 : of_warp - 1;
}

/* Where in `order` the threads of a warp begin: they are neighbours under every schedule but random. */
unsigned first_position(unsigned warp)
{
    return reversed() ? block.count - std::min(block.count, (warp + 1) * WARP) : warp * WARP;
}

/* The thread whose turn it is, or NULL when all wait. */
thread *next_thread()
{
    if (block.runnable == 0)
        return nullptr;
    unsigned warp = current ? current->number / WARP : 0;
    bool stay = greedy() && current && block.warp_runnable[warp] > 0;
    for (;;) {
        if (++block.cursor >= block.count) {
            block.cursor = 0;
            if (schedule == SIMT_RANDOM)
                shuffle(block.order, block.count);
        }
        if (stay && block.order[block.cursor] / WARP != warp)
            block.cursor = first_position(warp);
        thread *t = &block.threads[block.order[block.cursor]];
        if (can_run(*t))
            return t;
    }
}

/* ---- Fibers ---- */

void fiber_main();

#ifdef SIMT_UCONTEXT
void prepare_stack(fiber *f)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = f->stack_bytes;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_main, 0);
}

void swap_stacks(fiber *from, fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#else
/* Pushes what a call must preserve on one stack, pops it from the other. swapcontext would ask the kernel to save the
 * signal mask each time. */
extern "C" void simt_swap_stacks(void **save, void *load) __attribute__((visibility("hidden")));
__asm__(".text\n"
        ".globl simt_swap_stacks\n"
        ".hidden simt_swap_stacks\n"
        ".type simt_swap_stacks, @function\n"
        "simt_swap_stacks:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size simt_swap_stacks, . - simt_swap_stacks\n");

void prepare_stack(fiber *f)
{
    enum { REGISTERS = 6 };
    void **top = reinterpret_cast<void **>(static_cast<char *>(f->stack) + f->stack_bytes);
    *--top = nullptr; /* a return address, so that the stack is aligned as after a call */
    *--top = reinterpret_cast<void *>(fiber_main);
    for (int i = 0; i < REGISTERS; i++)
        *--top = nullptr;
    f->stack_pointer = top;
}

void swap_stacks(fiber *from, fiber *to)
{
    simt_swap_stacks(&from->stack_pointer, to->stack_pointer);
}
#endif

/* AddressSanitizer is told of each switch: where the fiber comes from, and where it is going. */
void arrive(fiber *at)
{
#ifdef SIMT_ASAN
    const void *bottom = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(at->fake_stack, &bottom, &bytes);
    if (!launcher.stack) { /* the first fiber learns on which stack kernels are launched */
        launcher.stack = const_cast<void *>(bottom);
        launcher.stack_bytes = bytes;
    }
#else
    (void)at;
#endif
}

void switch_fiber(fiber *from, fiber *to)
{
#ifdef SIMT_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef SIMT_TSAN
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
    swap_stacks(from, to);
    arrive(from);
}

/* A fiber that waits at the start of its loop. Below its stack lies a page that faults. */
fiber *take_fiber()
{
    if (fiber *f = free_fibers) {
        free_fibers = f->next_free;
        return f;
    }
    fiber *f = static_cast<fiber *>(calloc(1, sizeof(fiber)));
    void *memory = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!f || memory == MAP_FAILED || mprotect(memory, PAGE_BYTES, PROT_NONE) != 0)
        fail(current, "no memory for the stack of a thread");
    f->stack = static_cast<char *>(memory) + PAGE_BYTES;
    f->stack_bytes = STACK_BYTES - PAGE_BYTES;
#ifdef SIMT_TSAN
    f->tsan_fiber = __tsan_create_fiber(0);
#endif
    prepare_stack(f);
    return f;
}

void make_current(thread *t)
{
    current = t;
    simt_now.thread = index_of(t->number);
    simt_now.lane = t->number % WARP;
}

/* ---- Threads ---- */

/* Fails if another lane of the warp waits for this thread. */
void check_exit(const thread *exited)
{
    unsigned first = exited->number / WARP * WARP, last = std::min(first + WARP, block.count);
    for (unsigned i = first; i < last; i++) {
        const thread *t = &block.threads[i];
        if (t->state == AT_WARP && t->mask >> (exited->number % WARP) & 1)
            fail(t, "it waits for lanes 0x%08x at %s (%s:%d), but lane %u exits", t->mask, t->site.what, t->site.file,
                 t->site.line, exited->number % WARP);
    }
}

/* What every fiber does: threads that start, one after the other. */
void fiber_main()
{
    fiber *self = current->on;
    arrive(self);
    for (;;) {
        current->on = self;
        set_state(current, READY);
        (*block.body)();
        set_state(current, DONE);
        block.live--;
        check_exit(current);
        thread *next = next_thread();
        if (!next && block.live > 0)
            diagnose();
        if (next)
            make_current(next);
        if (next && next->state == NEW)
            continue;
        self->next_free = free_fibers;
        free_fibers = self;
        switch_fiber(self, next ? next->on : &launcher);
    }
}

void switch_to(fiber *from, thread *next)
{
    make_current(next);
    if (next->state == NEW)
        next->on = take_fiber();
    switch_fiber(from, next->on);
}

/* Lets others run; returns when the thread, which has set its state, is READY and has its turn. */
void give_way()
{
    thread *me = current;
    block.waited = true;
    thread *next = next_thread();
    if (!next)
        diagnose();
    if (next != me)
        switch_to(me->on, next);
}

/* ---- Blocks ---- */

void poison_shared(size_t shared_bytes)
{
    auto start = reinterpret_cast<uintptr_t>(simt_shared_start), stop = reinterpret_cast<uintptr_t>(simt_shared_stop);
    memset(simt_dynamic, POISON, shared_bytes);
    if (start != stop)
        memset(simt_shared_start, POISON, stop - start);
}

void start_block()
{
    block.live = block.runnable = block.count;
    block.arrived = 0;
    block.votes = 0;
    block.waited = false;
    block.cursor = block.count - 1; /* next_thread() moves first */
    for (unsigned warp = 0; warp * WARP < block.count; warp++)
        block.warp_runnable[warp] = std::min<unsigned>(WARP, block.count - warp * WARP);
    for (unsigned i = 0; i < block.count; i++) {
        block.threads[i] = thread{};
        block.threads[i].number = i;
        block.order[i] = reversed() ? block.count - 1 - i : i;
    }
}

void check_guard(size_t shared_bytes)
{
    for (size_t i = 0; i < size_t{GUARD_BYTES}; i++)
        if (simt_dynamic[shared_bytes + i] != GUARD)
            fail(nullptr, "a thread of this block wrote behind the %zu bytes of dynamic shared memory", shared_bytes);
}

void run_block(size_t shared_bytes)
{
    start_block();
    current = nullptr;
    switch_to(&launcher, next_thread());
    check_guard(shared_bytes);
}

} // namespace

/* ---- What kernels call ---- */

void simt_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail_at(current, format, args);
}

int simt_barrier(int predicate, const simt_site &site)
{
    thread *me = current;
    me->site = site;
    if (block.arrived == 0)
        block.first_arrived = me;
    const simt_site &other_site = block.first_arrived->site;
    if (!same_place(other_site, site)) {
        uint3 other = index_of(block.first_arrived->number);
        fail(me, "divergent barrier: it is at %s (%s:%d), and thread (%u,%u,%u) waits at %s (%s:%d)", site.what,
             site.file, site.line, other.x, other.y, other.z, other_site.what, other_site.file, other_site.line);
    }
    block.votes += predicate != 0;
    if (++block.arrived < block.count) {
        set_state(me, AT_BARRIER);
        give_way();
        return me->result;
    }
    for (unsigned i = 0; i < block.count; i++) {
        block.threads[i].result = block.votes;
        set_state(&block.threads[i], READY);
    }
    block.arrived = 0;
    block.votes = 0;
    if (!greedy())
        give_way();
    return me->result;
}

/* The other lanes in mask do, or will do, the same. */
static void check_mask(const thread *me, uint32_t mask)
{
    unsigned first = me->number / WARP * WARP, lane = me->number % WARP;
    if (!(mask >> lane & 1))
        fail(me, "lane %u is not in its own mask 0x%08x at %s (%s:%d)", lane, mask, me->site.what, me->site.file,
             me->site.line);
    for (unsigned i = 0; i < WARP; i++) {
        const thread *t = &block.threads[first + i];
        bool asked = mask >> i & 1;
        if (asked && (first + i >= block.count || t->state == DONE))
            fail(me, "the mask 0x%08x at %s (%s:%d) names lane %u, which %s", mask, me->site.what, me->site.file,
                 me->site.line, i, first + i >= block.count ? "does not exist" : "has exited");
        if (!asked || t->state != AT_WARP || !(t->mask >> lane & 1))
            continue; /* it may yet come */
        if (t->mask != mask || !same_place(t->site, me->site))
            fail(me, "it is at %s (%s:%d) with lanes 0x%08x, and lane %u waits at %s (%s:%d) with lanes 0x%08x",
                 me->site.what, me->site.file, me->site.line, mask, i, t->site.what, t->site.file, t->site.line,
                 t->mask);
    }
}

void simt_collective(uint32_t mask, void *operand, void (*perform)(void *const operand[32], uint32_t mask),
                     const simt_site &site)
{
    thread *me = current;
    unsigned first = me->number / WARP * WARP;
    me->site = site;
    me->mask = mask;
    me->operand = operand;
    check_mask(me, mask);
    set_state(me, AT_WARP);
    for (unsigned i = 0; i < WARP; i++)
        if (mask >> i & 1 && !(block.threads[first + i].state == AT_WARP && block.threads[first + i].mask == mask)) {
            give_way();
            return;
        }
    void *operands[WARP] = {};
    for (unsigned i = 0; i < WARP; i++)
        if (mask >> i & 1) {
            operands[i] = block.threads[first + i].operand;
            set_state(&block.threads[first + i], READY);
        }
    if (perform)
        perform(operands, mask);
    if (!greedy())
        give_way();
}

/* ---- Launches ---- */

static std::map<const void *, size_t> &allowed_shared()
{
    static std::map<const void *, size_t> allowed;
    return allowed;
}

cudaError_t simt_allow_shared(const void *kernel, size_t bytes)
{
    if (bytes > MAX_SHARED_BYTES)
        return cudaErrorInvalidValue;
    allowed_shared()[kernel] = bytes;
    return cudaSuccess;
}

cudaError_t simt_check_launch(const void *kernel, dim3 grid, dim3 dim, size_t shared_bytes)
{
    auto allowed = allowed_shared().find(kernel);
    size_t most = allowed == allowed_shared().end() ? DEFAULT_SHARED_BYTES : allowed->second;
    if (shared_bytes > std::max(most, DEFAULT_SHARED_BYTES))
        return cudaErrorInvalidValue;
    bool good = dim.x > 0 && dim.y > 0 && dim.z > 0 && dim.x <= MAX_THREADS && dim.y <= MAX_THREADS && dim.z <= 64 &&
                (size_t)dim.x * dim.y * dim.z <= MAX_THREADS && grid.x > 0 && grid.y > 0 && grid.z > 0 &&
                grid.x <= INT32_MAX && grid.y <= 65535 && grid.z <= 65535;
    return good ? cudaSuccess : cudaErrorInvalidConfiguration;
}

void simt_set_schedule(int wanted)
{
    schedule = wanted;
}

void simt_run(const char *name, dim3 grid, dim3 dim, size_t shared_bytes, const std::function<void()> &body)
{
    static std::mutex one_kernel;
    std::lock_guard<std::mutex> lock(one_kernel);
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    /* Any odd step visits every block of a power of two; others are skipped. */
    uint64_t span = 1, first = 0, step = 1;
    while (span < blocks)
        span *= 2;
    if (schedule == SIMT_RANDOM) {
        first = random_next() % span;
        step = random_next() | 1;
    }
    simt_now.block_dim = dim;
    simt_now.grid_dim = grid;
    block.kernel = name;
    block.body = &body;
    block.count = dim.x * dim.y * dim.z;
    block.threads.resize(MAX_THREADS);
    block.order.resize(MAX_THREADS);
    launcher.stack = nullptr;
#ifdef SIMT_TSAN
    launcher.tsan_fiber = __tsan_get_current_fiber();
#endif
    if (posix_memalign(reinterpret_cast<void **>(&simt_dynamic), 128, shared_bytes + GUARD_BYTES) != 0)
        fail(nullptr, "no memory for shared memory");
    memset(simt_dynamic + shared_bytes, GUARD, GUARD_BYTES);
    block.waited = true;
    for (uint64_t i = 0; i < span; i++) {
        uint64_t number = (first + i * step) % span;
        if (number >= blocks)
            continue;
        if (reversed())
            number = blocks - 1 - number;
        simt_now.block = make_uint3((unsigned)(number % grid.x), (unsigned)(number / grid.x % grid.y),
                                    (unsigned)(number / ((uint64_t)grid.x * grid.y)));
        if (block.waited) /* a block whose threads never wait shares nothing */
            poison_shared(shared_bytes);
        run_block(shared_bytes);
    }
    free(simt_dynamic);
    simt_dynamic = nullptr;
}
