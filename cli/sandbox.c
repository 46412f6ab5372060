/* The lists of system calls, and the filter that is made of them. */
#define _GNU_SOURCE
#include "cli/sandbox.h"

#include "core/error.h"

#include <errno.h>
#include <string.h>

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __x86_64__
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

enum { GET_XCOMP_PERM = 0x1022 }; /* <asm/prctl.h> */
enum { MOST_CODE = 256, RULE_CODE = 7, ANY = -1, VALUES = 2 };

/* A call that is allowed when (argument & mask) is one of two values; arg ANY: always. Arguments are ints or flags in
 * the low half of a word. */
typedef struct rule {
    int number, arg;
    uint32_t mask, value[VALUES];
} rule;

#define ALWAYS(call)        \
    {                       \
        SYS_##call, ANY, 0, \
        {                   \
            0, 0            \
        }                   \
    }
#define OPENS(call, arg)                                \
    {                                                   \
        SYS_##call, arg, O_ACCMODE | O_CREAT | O_TRUNC, \
        {                                               \
            O_RDONLY, O_RDONLY                          \
        }                                               \
    }
#define PRINTS(call)                     \
    {                                    \
        SYS_##call, 0, UINT32_MAX,       \
        {                                \
            STDOUT_FILENO, STDERR_FILENO \
        }                                \
    }
#define RUNS_NOTHING_NEW(call)    \
    {                             \
        SYS_##call, 2, PROT_EXEC, \
        {                         \
            0, 0                  \
        }                         \
    }

/* Memory, time, threads, and files that are open. */
static const rule sealed[] = {
    ALWAYS(read),
    ALWAYS(pread64),
    ALWAYS(readv),
    ALWAYS(lseek),
    ALWAYS(fstat),
    {SYS_newfstatat, 3, AT_EMPTY_PATH, {AT_EMPTY_PATH, AT_EMPTY_PATH}}, /* what libc makes of fstat */
    ALWAYS(close),
    PRINTS(write),
    PRINTS(writev),
    RUNS_NOTHING_NEW(mmap),
    RUNS_NOTHING_NEW(mprotect),
    ALWAYS(munmap),
    ALWAYS(mremap),
    ALWAYS(madvise),
    ALWAYS(brk),
    ALWAYS(futex),
    {SYS_clone, 0, CLONE_THREAD, {CLONE_THREAD, CLONE_THREAD}},
    ALWAYS(set_robust_list),
#ifdef SYS_rseq
    ALWAYS(rseq),
#endif
    ALWAYS(sched_yield),
    ALWAYS(sched_getaffinity),
    ALWAYS(sched_setaffinity),
    ALWAYS(rt_sigaction),
    ALWAYS(rt_sigprocmask),
    ALWAYS(rt_sigreturn),
    ALWAYS(sigaltstack),
    ALWAYS(clock_gettime),
    ALWAYS(clock_nanosleep),
    ALWAYS(nanosleep),
    ALWAYS(gettimeofday),
    ALWAYS(getrandom),
    ALWAYS(getrusage),
    ALWAYS(sysinfo),
    ALWAYS(uname),
    ALWAYS(getpid),
    ALWAYS(gettid),
    {SYS_ioctl, 1, UINT32_MAX, {TCGETS, TIOCGWINSZ}}, /* is it a terminal, and how wide */
    ALWAYS(exit),
    ALWAYS(exit_group),
};

/* What reading takes, and what begins the other filter. These rules come first. */
static const rule opening[] = {
    OPENS(openat, 2),
#ifdef SYS_open
    OPENS(open, 1),
    ALWAYS(stat),
    ALWAYS(lstat),
    ALWAYS(access),
    ALWAYS(readlink),
#endif
    ALWAYS(newfstatat),
#ifdef SYS_statx
    ALWAYS(statx),
#endif
    ALWAYS(faccessat),
#ifdef SYS_faccessat2
    ALWAYS(faccessat2),
#endif
    ALWAYS(readlinkat),
    ALWAYS(getdents64),
    ALWAYS(seccomp),
#ifdef SYS_arch_prctl
    {SYS_arch_prctl, 0, UINT32_MAX - 1, {GET_XCOMP_PERM, GET_XCOMP_PERM}}, /* AMX: asking for it, which is one more */
#endif
};

typedef struct filter {
    struct sock_filter code[MOST_CODE];
    unsigned short count;
} filter;

static void put(filter *f, struct sock_filter instruction)
{
    f->code[f->count++] = instruction;
}

/* JEQ of the number goes on or skips the rest of the rule; a rule whose argument does not suit ends in a refusal. */
static void put_rule(filter *f, const rule *r)
{
    const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const uint8_t rest = r->arg == ANY ? 1 : RULE_CODE - 1;
    put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)r->number, 0, rest));
    if (r->arg != ANY) {
        const uint32_t low = (uint32_t)offsetof(struct seccomp_data, args) + 8u * (uint32_t)r->arg; /* little-endian */
        put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low));
        put(f, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, r->mask));
        put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->value[0], 2, 0));
        put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->value[1], 1, 0));
        put(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
    }
    put(f, allow);
}

static cnn_status fail(void)
{
    return cnn_error(CNN_ERR_UNSUPPORTED, "this system offers no sandbox (seccomp): %s; run it without",
                     strerror(errno));
}

static cnn_status install(bool may_open)
{
    filter f = {.count = 0};
    put(&f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
    put(&f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0));
    put(&f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    put(&f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
#ifdef SYS_clone3
    /* Its flags lie in memory, where no filter looks: libc then takes clone. */
    put(&f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1));
    put(&f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
#endif
    for (size_t i = 0; may_open && i < sizeof opening / sizeof opening[0]; i++)
        put_rule(&f, &opening[i]);
    for (size_t i = 0; i < sizeof sealed / sizeof sealed[0]; i++)
        put_rule(&f, &sealed[i]);
    put(&f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
    const struct sock_fprog program = {f.count, f.code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0 ? CNN_OK : fail();
}

cnn_status cnn_sandbox_begin(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail();
    return install(true);
}

cnn_status cnn_sandbox_seal(void)
{
    return install(false);
}
#else
cnn_status cnn_sandbox_begin(void)
{
    return cnn_error(CNN_ERR_UNSUPPORTED, "this system offers no sandbox (seccomp): run it without");
}

cnn_status cnn_sandbox_seal(void)
{
    return cnn_sandbox_begin();
}
#endif
