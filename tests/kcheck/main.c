/* kcheck: checks every kernel of every backend against the reference, or times them. */
#include "tests/kcheck/kcheck.h"

#include "core/plugin.h"
#include "core/pool.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEVICES = 16, FAILURES_SHOWN = 3, TEXT_BYTES = 1024, DEFAULT_RANDOM = 60 };

typedef struct options {
    const char *backend, *isa, *plant; /* NULL: all; none */
    cnn_op op;                         /* CNN_OP_NONE: all */
    cnn_dtype src;                     /* CNN_NONE: all */
    int number;                        /* of one case; -1: all */
    int random;                        /* random cases an op */
    int threads;                       /* of --bench; 0: all CPUs */
    uint64_t seed;
    bool bench, list;
    bool spread;     /* each case on one device */
    int part, parts; /* only the cases of one part of the whole; parts 0: all */
} options;

typedef struct tally {
    int passed, failed;
} tally;

/* Ops that a backend may refuse in all cases. */
static const struct {
    const char *backend;
    cnn_op op;
} may_lack[] = {{NULL, CNN_OP_NONE}};

/* ---- Options ---- */

static void usage(FILE *stream)
{
    fprintf(stream,
            "usage: kcheck [OPTION]...\n"
            "Checks every kernel of every backend against the reference.\n\n"
            "  --backend NAME  only this backend: ref, cpu, or a plug-in: cuda, cudasim (default: ref and cpu)\n"
            "  --isa LEVEL     only this level of the cpu backend: portable, avx2, avx512, ...; or, with --backend,\n"
            "                  one device of a plug-in: 0, 1, ...\n"
            "  --op OP         only this op, such as conv or bn_train\n"
            "  --case N        only this case of the op\n"
            "  --src TYPE      only cases that read this type, such as f32 or i8\n"
            "  --seed S        of the values and the random cases (default 1)\n"
            "  --random N      random cases an op, beside the fixed ones (default %d)\n"
            "  --spread        each case on one of the devices: for slow builds of a plug-in\n"
            "  --part I/N      only part I of N of the cases, I from 0: for several processes side by side\n"
            "  --bench         time the convnet's shapes\n"
            "  --threads N     of --bench (default: all CPUs)\n"
            "  --list          list ops, planted bugs and devices\n"
            "  --plant BUG     check a reference with this bug: must fail\n",
            DEFAULT_RANDOM);
}

static bool parse_number(const char *text, uint64_t limit, uint64_t *value)
{
    char *end;
    *value = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0 && *value <= limit;
}

static bool parse_op(const char *name, cnn_op *op)
{
    for (int i = 1; i < CNN_OP_COUNT; i++)
        if (strcmp(cnn_op_info_get((cnn_op)i)->name, name) == 0) {
            *op = (cnn_op)i;
            return true;
        }
    return false;
}

static bool parse_dtype(const char *name, cnn_dtype *dtype)
{
    for (int i = CNN_NONE + 1; i < CNN_DTYPE_COUNT; i++)
        if (strcmp(cnn_dtype_name((cnn_dtype)i), name) == 0) {
            *dtype = (cnn_dtype)i;
            return true;
        }
    return false;
}

/* "I/N", I below N */
static bool parse_part(const char *text, options *opt)
{
    int length = 0;
    return sscanf(text, "%d/%d%n", &opt->part, &opt->parts, &length) == 2 && text[length] == '\0' && opt->part >= 0 &&
           opt->part < opt->parts;
}

static bool is_plugin(const char *backend)
{
    return strcmp(backend, "cuda") == 0 || strcmp(backend, "cudasim") == 0;
}

static bool parse_one(options *opt, int letter, const char *value)
{
    uint64_t number = 0;
    switch (letter) {
    case 'b':
        opt->backend = value;
        return strcmp(value, "cpu") == 0 || strcmp(value, "ref") == 0 || is_plugin(value);
    case 'i':
        opt->isa = value;
        return true;
    case 'o':
        return parse_op(value, &opt->op);
    case 'd':
        return parse_dtype(value, &opt->src);
    case 'c':
        if (!parse_number(value, 1000000, &number))
            return false;
        opt->number = (int)number;
        return true;
    case 's':
        return parse_number(value, UINT64_MAX, &opt->seed);
    case 'r':
        if (!parse_number(value, 1000000, &number))
            return false;
        opt->random = (int)number;
        return true;
    case 't':
        if (!parse_number(value, 1024, &number))
            return false;
        opt->threads = (int)number;
        return true;
    case 'p':
        opt->plant = value;
        return kc_plant(value) != NULL;
    case 'B':
        opt->bench = true;
        return true;
    case 'S':
        opt->spread = true;
        return true;
    case 'P':
        return parse_part(value, opt);
    case 'l':
        opt->list = true;
        return true;
    default:
        return false;
    }
}

/* True to go on; else *exit_code is set. */
static bool parse(int argc, char **argv, options *opt, int *exit_code)
{
    static const struct option table[] = {{"backend", required_argument, NULL, 'b'},
                                          {"isa", required_argument, NULL, 'i'},
                                          {"op", required_argument, NULL, 'o'},
                                          {"case", required_argument, NULL, 'c'},
                                          {"src", required_argument, NULL, 'd'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"random", required_argument, NULL, 'r'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"plant", required_argument, NULL, 'p'},
                                          {"bench", no_argument, NULL, 'B'},
                                          {"spread", no_argument, NULL, 'S'},
                                          {"list", no_argument, NULL, 'l'},
                                          {"part", required_argument, NULL, 'P'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int letter, index = 0;
    while ((letter = getopt_long(argc, argv, "", table, &index)) != -1) {
        if (letter == 'h') {
            usage(stdout);
            *exit_code = 0;
            return false;
        }
        if (!parse_one(opt, letter, optarg)) {
            if (letter != '?')
                fprintf(stderr, "kcheck: --%s %s is not understood; see --help and --list\n", table[index].name,
                        optarg);
            *exit_code = 2;
            return false;
        }
    }
    if (opt->isa && !opt->backend)
        opt->backend = "cpu";
    *exit_code = 2;
    if (optind < argc)
        fprintf(stderr, "kcheck: '%s' is not an option; see --help\n", argv[optind]);
    else if (opt->number >= 0 && opt->op == CNN_OP_NONE)
        fprintf(stderr, "kcheck: --case needs --op\n");
    else
        return true;
    return false;
}

/* ---- Devices ---- */

/* isa: one of the backend's variants, or "". */
static bool open_device(kc_device *device, const cnn_backend *backend, const char *isa)
{
    cnn_device_options chosen = {.variant = *isa ? isa : NULL};
    *device = (kc_device){.backend = backend};
    snprintf(device->isa, sizeof device->isa, "%s", isa);
    snprintf(device->label, sizeof device->label, "%s%s%s", backend->name, *isa ? "/" : "", isa);
    bool opened = backend->open(cnn_host_get(), &chosen, &device->device) == CNN_OK;
    if (!opened)
        printf("%-16s skipped: %s\n", device->label, cnn_last_error());
    else
        printf("%-16s %s\n", device->label, backend->describe(device->device));
    return opened;
}

static bool wanted(const options *opt, const char *backend)
{
    return !opt->backend || strcmp(opt->backend, backend) == 0;
}

/* The devices of a plug-in have numbers; the first that cannot be opened is one more than there are. */
static int open_plugin(const options *opt, kc_device *devices)
{
    const cnn_backend *backend;
    int count = 0;
    if (cnn_plugin_load(opt->backend, &backend) != CNN_OK) {
        printf("%s\n", cnn_last_error());
        return 0;
    }
    for (int i = 0; backend->variants[i]; i++)
        if (!opt->isa || strcmp(opt->isa, backend->variants[i]) == 0) {
            if (!open_device(&devices[count], backend, backend->variants[i]))
                break;
            count++;
        }
    return count;
}

static int open_devices(const options *opt, kc_device *devices)
{
    static const char *const levels[] = {"portable", "avx2", "avxvnni", "avx512", "avx512vnni", "amx"};
    enum { LEVELS = sizeof levels / sizeof levels[0] };
    int count = 0;
    if (opt->plant)
        return open_device(&devices[0], kc_plant(opt->plant), "") ? 1 : 0;
    if (opt->backend && is_plugin(opt->backend))
        return open_plugin(opt, devices);
    if (wanted(opt, "ref") && !opt->bench)
        count += open_device(&devices[count], &cnn_backend_ref, "");
    for (int i = 0; i < LEVELS; i++) {
        bool chosen = !opt->isa || strcmp(opt->isa, levels[i]) == 0 || (opt->bench && i == 0);
        if (wanted(opt, "cpu") && chosen)
            count += open_device(&devices[count], &cnn_backend_cpu, levels[i]);
    }
    return count;
}

static void close_devices(kc_device *devices, int count)
{
    for (int i = 0; i < count; i++)
        devices[i].backend->close(devices[i].device);
}

/* ---- Checking ---- */

static void report(const kc_case *test, const kc_device *device, const char *text, const options *opt)
{
    const char *own = is_plugin(device->backend->name) ? getenv("CNN_CUDA_OWN") : NULL;
    printf("FAILED %s: %s\n    replay: %s%s%skcheck", device->label, text, own ? "CNN_CUDA_OWN=" : "", own ? own : "",
           own ? " " : "");
    if (opt->plant)
        printf(" --plant %s", opt->plant);
    else
        printf(" --backend %s", device->backend->name);
    if (*device->isa)
        printf(" --isa %s", device->isa);
    printf(" --op %s --case %d --seed %llu\n", cnn_op_info_get(test->desc.op)->name, test->number,
           (unsigned long long)test->seed);
    fflush(stdout);
}

/* A number below `count`. Cases come in a regular order of types and shapes, so their numbers are hashed. */
static int scattered(int number, int count)
{
    const uint32_t hash = (uint32_t)number * 2654435761u; /* Knuth's multiplicative hash */
    return (int)((hash >> 16) % (uint32_t)count);
}

/* Failures of one op on one device past the first few are only counted. */
static void check_case(const options *opt, cnn_op op, int number, kc_device *devices, int count, int *shown, tally *sum)
{
    kc_case test;
    char text[TEXT_BYTES] = "";
    if (kc_case_make(&test, op, number, opt->seed) != CNN_OK) {
        printf("FAILED kcheck: %s\n", cnn_last_error());
        sum->failed++;
        kc_case_free(&test);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (opt->spread && scattered(number, count) != i)
            continue;
        switch (kc_check(&test, &devices[i], text, sizeof text)) {
        case KC_PASSED:
            sum->passed++;
            break;
        case KC_FAILED:
            sum->failed++;
            if (shown[i]++ < FAILURES_SHOWN)
                report(&test, &devices[i], text, opt);
            break;
        case KC_REFUSED:
            if (opt->number >= 0)
                printf("%s refuses: %s\n", devices[i].label, devices[i].reason[op]);
            break;
        }
    }
    kc_case_free(&test);
}

static void check_op(const options *opt, cnn_op op, kc_device *devices, int count, tally *sum)
{
    int shown[MAX_DEVICES] = {0};
    int first = 0, last = kc_op_get(op)->fixed + opt->random - 1;
    if (opt->number >= 0)
        first = last = opt->number;
    tally before = *sum;
    for (int number = first; number <= last; number++) {
        if (opt->parts && scattered(number, opt->parts) != opt->part)
            continue;
        if (opt->src == CNN_NONE || kc_case_src(op, number, opt->seed) == opt->src)
            check_case(opt, op, number, devices, count, shown, sum);
    }
    printf("%-14s %5d passed, %d failed\n", cnn_op_info_get(op)->name, sum->passed - before.passed,
           sum->failed - before.failed);
    fflush(stdout);
}

static bool lacks_rightly(const kc_device *device, cnn_op op)
{
    for (int i = 0; may_lack[i].backend; i++)
        if (strcmp(may_lack[i].backend, device->backend->name) == 0 && may_lack[i].op == op)
            return true;
    return false;
}

/* One line a device: which ops refused how many cases, padding that it does not want included. */
static void print_refusals(const kc_device *device)
{
    const char *separator = " refused";
    for (int op = 1; op < CNN_OP_COUNT; op++) {
        if (!device->refused[op])
            continue;
        printf("%s%s %d %s", separator[0] == ' ' ? device->label : "", separator, device->refused[op],
               cnn_op_info_get((cnn_op)op)->name);
        separator = ",";
    }
    if (separator[0] == ',')
        printf("\n");
}

/* Prints what was refused; an op that a backend refuses always counts as a failure, unless only a part was asked. */
static void report_refusals(const options *opt, const kc_device *devices, int count, tally *sum)
{
    for (int i = 0; i < count; i++) {
        const kc_device *device = &devices[i];
        print_refusals(device);
        for (int op = 1; op < CNN_OP_COUNT; op++) {
            const char *name = cnn_op_info_get((cnn_op)op)->name;
            if (device->refused[op] && opt->op != CNN_OP_NONE)
                printf("    %s, first reason: %s\n", name, device->reason[op]);
            if (device->refused[op] && !device->ran[op] && opt->number < 0 && !opt->parts &&
                !lacks_rightly(device, (cnn_op)op)) {
                printf("FAILED %s: no kernel for %s: %s\n", device->label, name, device->reason[op]);
                sum->failed++;
            }
        }
    }
}

static int check_all(const options *opt, kc_device *devices, int count)
{
    tally sum = {0};
    printf("seed %llu, %d random cases an op\n", (unsigned long long)opt->seed, opt->random);
    for (int op = 1; op < CNN_OP_COUNT; op++)
        if (opt->op == CNN_OP_NONE || opt->op == (cnn_op)op)
            check_op(opt, (cnn_op)op, devices, count, &sum);
    report_refusals(opt, devices, count, &sum);
    printf("%d passed, %d failed\n", sum.passed, sum.failed);
    return sum.failed == 0 && sum.passed > 0 ? 0 : 1;
}

static void list(void)
{
    for (int op = 1; op < CNN_OP_COUNT; op++)
        printf("op %-14s %d fixed cases\n", cnn_op_info_get((cnn_op)op)->name, kc_op_get((cnn_op)op)->fixed);
    for (int i = 0; kc_plants[i]; i++)
        printf("plant %s\n", kc_plants[i]);
}

int main(int argc, char **argv)
{
    static kc_device devices[MAX_DEVICES];
    options opt = {.number = -1, .random = DEFAULT_RANDOM, .seed = 1};
    int exit_code;
    if (!parse(argc, argv, &opt, &exit_code))
        return exit_code;
    if (opt.list)
        list();
    int count = open_devices(&opt, devices);
    if (opt.list)
        exit_code = 0;
    else if (count == 0)
        exit_code = 1;
    else if (opt.bench)
        exit_code = cnn_set_threads(opt.threads) != CNN_OK || kc_bench(devices, count, opt.seed) > 0;
    else
        exit_code = check_all(&opt, devices, count);
    close_devices(devices, count);
    return exit_code;
}
