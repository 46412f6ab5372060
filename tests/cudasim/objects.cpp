/* What lives: every object of the runtime and the libraries by kind, requests that fail, leaks. */
#include "tests/cudasim/runtime.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <unistd.h>

static const char *const kind_names[CUDASIM_KINDS] = {
    "block of device memory", "block of pinned memory", "stream",           "event",           "graph",
    "executable graph",       "cuDNN handle",           "cuDNN descriptor", "cuBLASLt handle", "cuBLASLt descriptor",
};

namespace
{

struct registry {
    std::map<const void *, int> objects[CUDASIM_KINDS]; /* and their devices */
    int64_t requests = 0, failing = 0;
    registry()
    {
        const char *text = getenv("CNN_CUDASIM_FAIL");
        failing = text ? strtoll(text, nullptr, 10) : 0;
    }
};

/* Never destroyed: the process may end in any order. */
registry &all()
{
    static registry *const made = new registry;
    return *made;
}

} // namespace

void cudasim_report(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("cudasim: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

std::recursive_mutex &cudasim_lock()
{
    static std::recursive_mutex *const lock = new std::recursive_mutex;
    return *lock;
}

void cudasim_add(cudasim_kind kind, const void *object, int device)
{
    all().objects[kind][object] = device;
}

bool cudasim_is_live(cudasim_kind kind, const void *object)
{
    return all().objects[kind].count(object) > 0;
}

void cudasim_need(cudasim_kind kind, const void *object, const char *call)
{
    if (!cudasim_is_live(kind, object))
        cudasim_report("%s: %p is no %s, or one that was destroyed", call, object, kind_names[kind]);
}

void cudasim_remove(cudasim_kind kind, const void *object, const char *call)
{
    cudasim_need(kind, object, call);
    all().objects[kind].erase(object);
}

bool cudasim_refuse()
{
    return ++all().requests == all().failing;
}

bool cudasim_leaks(int device)
{
    bool leaks = false;
    for (int kind = 0; kind < CUDASIM_KINDS; kind++) {
        int64_t count = 0;
        for (const auto &object : all().objects[kind])
            count += device < 0 || object.second == device;
        if (count > 0)
            fprintf(stderr, "cudasim: leaked: %lld times a %s\n", static_cast<long long>(count), kind_names[kind]);
        leaks = leaks || count > 0;
    }
    return leaks;
}

int64_t cudasim_live(cudasim_kind kind)
{
    CUDASIM_LOCKED;
    return static_cast<int64_t>(all().objects[kind].size());
}

int64_t cudasim_requests(void)
{
    CUDASIM_LOCKED;
    return all().requests;
}

void cudasim_fail_request(int64_t number)
{
    CUDASIM_LOCKED;
    all().requests = 0;
    all().failing = number;
}

__attribute__((destructor)) static void check_at_exit()
{
    if (cudasim_leaks(-1)) {
        fflush(stdout);
        _exit(CUDASIM_EXIT_LEAK);
    }
}
