/* The system calls by which the tools read and write files, each with a chance to fail: those of libc's streams, of
 * zlib and of libpng too, which no linker could send elsewhere.
 *
 * A seccomp filter makes each of them a signal (SIGSYS) whose handler makes the call itself, from one place that the
 * filter lets through, or has it fail. The filter holds in one thread and those that it starts: the tool runs there. */
#define _GNU_SOURCE
#include "tests/faults/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What can fail tells of itself: the tool goes on without it or says why it cannot. What writes cannot be done without.
 */
bool fault_is_tolerable(const char *call)
{
    static const char *const writing[] = {"write(", "fsync(", "rename(", "ftruncate("};
    for (size_t i = 0; i < sizeof writing / sizeof writing[0]; i++)
        if (strncmp(call, writing[i], strlen(writing[i])) == 0)
            return fault_is_silencing(call);
    return true;
}

bool fault_is_silencing(const char *call)
{
    return strcmp(call, "write(2)") == 0;
}

#if defined(__linux__) && defined(__x86_64__)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

enum { NO_FD = -1, MOST_DESCRIPTORS = 64 };

typedef enum call_trait { PLAIN, READS, WRITES, CLOSES } call_trait;

static const struct call {
    const char *name;
    int number, error;
    int fd; /* argument that is a file descriptor */
    call_trait trait;
} calls[] = {
    {"open", SYS_open, EIO, NO_FD, PLAIN},
    {"open", SYS_openat, EIO, NO_FD, PLAIN},
    {"read", SYS_read, EIO, 0, READS},
    {"read", SYS_pread64, EIO, 0, READS},
    {"read", SYS_readv, EIO, 0, PLAIN},
    {"mmap", SYS_mmap, ENOMEM, 4, PLAIN},
    {"write", SYS_write, EIO, 0, WRITES},
    {"write", SYS_pwrite64, EIO, 0, WRITES},
    {"write", SYS_writev, EIO, 0, PLAIN},
    {"fsync", SYS_fsync, EIO, 0, PLAIN},
    {"fsync", SYS_fdatasync, EIO, 0, PLAIN},
    {"rename", SYS_rename, EIO, NO_FD, PLAIN},
    {"rename", SYS_renameat, EIO, NO_FD, PLAIN},
    {"rename", SYS_renameat2, EIO, NO_FD, PLAIN},
    {"close", SYS_close, EIO, 0, CLOSES},
    {"ftruncate", SYS_ftruncate, EIO, 0, PLAIN},
    {"unlink", SYS_unlink, EIO, NO_FD, PLAIN},
    {"unlink", SYS_unlinkat, EIO, NO_FD, PLAIN},
    {"mkdir", SYS_mkdir, EIO, NO_FD, PLAIN},
    {"seek", SYS_lseek, EIO, 0, PLAIN},
    {"stat", SYS_newfstatat, EIO, NO_FD, PLAIN},
    {"stat", SYS_stat, EIO, NO_FD, PLAIN},
    {"stat", SYS_lstat, EIO, NO_FD, PLAIN},
    {"stat", SYS_statx, EIO, NO_FD, PLAIN},
    {"fstat", SYS_fstat, EIO, 0, PLAIN},
    {"fchmod", SYS_fchmod, EIO, 0, PLAIN},
    {"access", SYS_access, EIO, NO_FD, PLAIN},
    {"access", SYS_faccessat, EIO, NO_FD, PLAIN},
#ifdef SYS_faccessat2
    {"access", SYS_faccessat2, EIO, NO_FD, PLAIN},
#endif
    {"readlink", SYS_readlink, EIO, NO_FD, PLAIN},
    {"readlink", SYS_readlinkat, EIO, NO_FD, PLAIN},
    {"getdents", SYS_getdents64, EIO, 0, PLAIN},
};
enum { CALL_COUNT = sizeof calls / sizeof calls[0] };

/* long fault_syscall(long number, long a[6]): a system call from the one place that the filter lets through. */
__asm__(".text\n"
        ".type fault_syscall, @function\n"
        "fault_syscall:\n"
        "    mov %rdi, %rax\n"
        "    mov %rsi, %r11\n"
        "    mov (%r11), %rdi\n"
        "    mov 8(%r11), %rsi\n"
        "    mov 16(%r11), %rdx\n"
        "    mov 24(%r11), %r10\n"
        "    mov 32(%r11), %r8\n"
        "    mov 40(%r11), %r9\n"
        "    syscall\n"
        "fault_syscall_end:\n"
        "    ret\n"
        ".size fault_syscall, . - fault_syscall\n");
extern long fault_syscall(long number, const long a[6]);
extern const char fault_syscall_end[];

static bool is_regular(int fd)
{
    struct stat info;
    const long a[6] = {fd, (long)(intptr_t)&info};
    return fault_syscall(SYS_fstat, a) == 0 && S_ISREG(info.st_mode);
}

static long refuse(const struct call *call, const long a[6], int error)
{
    if (call->trait == CLOSES) /* Linux closes a descriptor even where it reports an error */
        fault_syscall(call->number, a);
    fault_name(call->name, call->fd == NO_FD ? -1 : (int)a[call->fd]);
    return -error;
}

/* A disk of `limit` bytes. Standard output and error lie on another one: the sentence is to be read. */
static long write_if_room(const struct call *call, long a[6])
{
    const int fd = (int)a[0];
    if (fd <= STDERR_FILENO || !is_regular(fd))
        return fault_syscall(call->number, a);
    if (fault_shared->kind == FAULT_FULL) {
        const long room = atomic_load(&fault_shared->limit) - atomic_load(&fault_shared->written);
        if (room <= 0 && a[2] > 0)
            return refuse(call, a, ENOSPC);
        if (a[2] > room)
            a[2] = room;
    }
    const long done = fault_syscall(call->number, a);
    if (done > 0)
        atomic_fetch_add(&fault_shared->written, done);
    return done;
}

static long serve(const struct call *call, long a[6])
{
    if (atomic_fetch_add(&fault_shared->count, 1) + 1 == atomic_load(&fault_shared->fail_at)) {
        if (fault_shared->kind == FAULT_KILLED) {
            fault_name(call->name, call->fd == NO_FD ? -1 : (int)a[call->fd]);
            kill(getpid(), SIGKILL);
        }
        if (fault_shared->kind == FAULT_REFUSED)
            return refuse(call, a, call->error);
    }
    const long limit = atomic_load(&fault_shared->limit);
    if (fault_shared->kind == FAULT_SHORT && (call->trait == READS || call->trait == WRITES) && a[2] > limit)
        a[2] = limit;
    return call->trait == WRITES ? write_if_room(call, a) : fault_syscall(call->number, a);
}

static void take_call(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    long a[6] = {r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]};
    const int kept = errno;
    for (int i = 0; i < CALL_COUNT; i++)
        if (calls[i].number == info->si_syscall)
            r[REG_RAX] = serve(&calls[i], a);
    errno = kept;
}

/* Sends the calls of this thread, and of those that it starts, to take_call(). mmap of no file asks for memory. */
static bool install_filter(void)
{
    enum { HEAD = 5, TAIL = 6, LOW = offsetof(struct seccomp_data, instruction_pointer) };
    struct sock_filter code[HEAD + CALL_COUNT + TAIL];
    const uint64_t from = (uint64_t)(uintptr_t)fault_syscall_end;
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    struct sigaction action = {.sa_sigaction = take_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sock_filter *at = code;
    *at++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW);
    *at++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)from, 0, 2);
    *at++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW + 4);
    *at++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(from >> 32), CALL_COUNT + 1, 0);
    *at++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALL_COUNT; i++) {
        const uint8_t to = (uint8_t)(CALL_COUNT - i); /* mmap's own test lies one further on than the trap */
        const uint8_t skip = calls[i].number == SYS_mmap ? to : (uint8_t)(to + 3);
        *at++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i].number, skip, 0);
    }
    *at++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    *at++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[4]));
    *at++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, UINT32_MAX, 0, 1);
    *at++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    *at++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    program.len = (unsigned short)(at - code);
    sigemptyset(&action.sa_mask);
    return sigaction(SIGSYS, &action, NULL) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

typedef struct tool_call {
    int argc, code;
    char **argv;
} tool_call;

static void *run_filtered(void *context)
{
    tool_call *tool = context;
    tool->code = install_filter() ? tool_main(tool->argc, tool->argv) : FAULT_CODE_UNABLE;
    return NULL;
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < MOST_DESCRIPTORS; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* The sanitizers' own looks at files, at the end, come from this thread and are left alone. */
int fault_run_tool(int argc, char **argv)
{
    tool_call tool = {argc, FAULT_CODE_UNABLE, argv};
    pthread_t thread;
    const int before = open_descriptors();
    if (pthread_create(&thread, NULL, run_filtered, &tool) != 0 || pthread_join(thread, NULL) != 0)
        return FAULT_CODE_UNABLE;
    return open_descriptors() == before ? tool.code : FAULT_CODE_DESCRIPTOR;
}
#else
int fault_run_tool(int argc, char **argv)
{
    (void)argc, (void)argv;
    return FAULT_CODE_UNABLE;
}
#endif
