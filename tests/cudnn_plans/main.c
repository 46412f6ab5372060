/* cudnn_plans TABLE [--all] [--write]: the cuDNN graphs of the shipped models on six GPUs, compared with the table in
 * docs. Graphs of training at batch 1 take long to compile: they are asked for with --all.
 *
 * For each graph and GPU the real cuDNN must offer an engine that may be used and finalize a plan of it. The table says
 * which graphs these are and whether each was accepted; another list than the committed one fails, --write writes it.
 * Engine numbers and workspaces are told for information: they change with cuDNN's version. */
#include "tests/cudnn_plans/plans.h"

#include "core/memory.h"
#include "core/pool.h"
#include "kernels/cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEGATIVES = 3, LINE_BYTES = 4096 };

/* ---- What is asked ---- */

static void judge_plan(const void *subject, cnn_device *device, verdict *result)
{
    const plan_graph *graph = subject;
    cnn_kernel *kernel = NULL;
    result->status = cnn_cudnn_make(device, &graph->desc, &kernel);
    if (result->status != CNN_OK)
        return;
    const cnn_cudnn_plan *plan = ((const cnn_cudnn_kernel *)kernel)->plan;
    result->engine = plan->engine;
    result->numerical_notes = plan->numerical_notes;
    result->behavior_notes = plan->behavior_notes;
    result->workspace_bytes = plan->workspace_bytes;
    kernel->destroy(kernel);
}

/* A graph that cuDNN must refuse, and a part of the sentence that says so. */
typedef struct negative {
    const char *name, *expected;
    cnn_status status;
    cnn_cudnn_graph graph;
} negative;

static void judge_negative(const void *subject, cnn_device *device, verdict *result)
{
    const negative *wrong = subject;
    cnn_cudnn_plan *plan = NULL;
    result->status = cnn_cudnn_plan_make(device, &wrong->graph, wrong->name, &plan);
    cnn_cudnn_plan_free(plan);
}

static cnn_cudnn_graph conv_graph(int32_t height, cnn_dtype weight)
{
    cnn_op_desc desc = {.op = CNN_OP_CONV, .stride = 1, .pad = 2};
    cnn_cudnn_op op;
    desc.arg[CNN_ARG_SRC] = cnn_desc(CNN_F16, 64, 14, 14, 128);
    desc.arg[CNN_ARG_WEIGHT] = cnn_desc(CNN_F16, 256, 5, 5, 128);
    desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F16, 64, height, 14, 256);
    cnn_cudnn_op_graph(&desc, &op);
    op.graph.tensors[1].dtype = cnn_cudnn_dtype(weight);
    return op.graph;
}

static cnn_cudnn_graph odd_wgrad_graph(void)
{
    cnn_op_desc desc = {.op = CNN_OP_CONV_WGRAD, .stride = 1, .pad = 2};
    cnn_cudnn_op op;
    desc.arg[CNN_ARG_SRC] = cnn_desc(CNN_F16, 64, 14, 14, 91);
    desc.arg[CNN_ARG_SRC2] = cnn_desc(CNN_F16, 64, 14, 14, 256);
    desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 256, 5, 5, 91);
    cnn_cudnn_op_graph(&desc, &op);
    return op.graph;
}

/* Wrong output shapes and dtypes are refused and named: the test of plans can fail. */
static int check_negatives(void)
{
    const negative wrong[NEGATIVES] = {
        {"an output of 15 rows", "is_valid_spatial_dim", CNN_ERR_DEVICE, conv_graph(15, CNN_F16)},
        {"bf16 weights of f16 activations", "offers 0 engines", CNN_ERR_UNSUPPORTED, conv_graph(14, CNN_BF16)},
        {"f32 weight gradients of 91 channels", "offers 0 engines", CNN_ERR_UNSUPPORTED, odd_wgrad_graph()},
    };
    static verdict results[NEGATIVES * GPUS];
    int failures = 0;
    verdicts_run(wrong, NEGATIVES, sizeof wrong[0], judge_negative, results);
    for (int i = 0; i < NEGATIVES * GPUS; i++) {
        const negative *of = &wrong[i / GPUS];
        if (results[i].status == of->status && strstr(results[i].error, of->expected))
            continue;
        fprintf(stderr, "%s, %s: should be refused with '%s', but: status %d, %s\n", of->name, gpus[i % GPUS].name,
                of->expected, (int)results[i].status, results[i].error);
        failures++;
    }
    return failures;
}

static int check_cache(void)
{
    cnn_op_desc desc = {.op = CNN_OP_CONV, .stride = 1};
    static verdict results[GPUS];
    int failures = 0;
    desc.arg[CNN_ARG_SRC] = cnn_desc(CNN_F16, 64, 14, 14, 6);
    desc.arg[CNN_ARG_WEIGHT] = cnn_desc(CNN_F16, 16, 5, 5, 6);
    desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F16, 64, 10, 10, 16);
    desc.arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_F32, 16);
    desc.epilogue[desc.epilogue_count++] = CNN_EPILOGUE_BIAS;
    verdicts_run(&desc, 1, sizeof desc, judge_cache, results);
    for (int g = 0; g < GPUS; g++)
        if (results[g].status != CNN_OK) {
            fprintf(stderr, "plan cache, %s: %s\n", gpus[g].name, results[g].error);
            failures++;
        }
    return failures;
}

/* ---- The table ---- */

static void append_verdict(cnn_text *text, const verdict *result)
{
    if (result->skipped || result->status != CNN_OK) {
        cnn_text_append(text, result->skipped ? " ? |" : " no |");
        return;
    }
    const bool tensor = result->numerical_notes >> CUDNN_NUMERICAL_NOTE_TENSOR_CORE & 1;
    const bool compiled = result->behavior_notes >> CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION & 1;
    cnn_text_append(text, " %lld%s%s", (long long)result->engine, tensor ? " t" : "", compiled ? " c" : "");
    if (result->workspace_bytes)
        cnn_text_append(text, ", %.3g MB", (double)result->workspace_bytes / 1e6);
    cnn_text_append(text, " |");
}

static void append_rows(cnn_text *text, const char *title, const plan_graphs *graphs, const verdict *results)
{
    cnn_text_append(text, "\n## %s\n\n| graph | for |", title);
    for (int g = 0; g < GPUS; g++)
        cnn_text_append(text, " %s |", gpus[g].name);
    cnn_text_append(text, "\n|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < graphs->count; i++) {
        cnn_text_append(text, "| `%s` | %s |", graphs->graph[i].text, graphs->graph[i].used);
        for (int g = 0; g < GPUS; g++)
            append_verdict(text, &results[i * GPUS + g]);
        cnn_text_append(text, "\n");
    }
}

static void append_head(cnn_text *text)
{
    cnn_text_append(
        text,
        "# Plans of cuDNN\n\n"
        "Written by `cudnn_plans --all --write`, kept true by the test of that name. Each row is one graph that the "
        "backend asks cuDNN for,\neach cell what cuDNN %d.%d.%d answers for a GPU of that generation, of "
        "which it has the description alone\n(tests/cudnn_plans/devices.c): the engine of the plan that it "
        "finalized, `t` with tensor cores, `c` compiled at run time, and its\nworkspace; or `no`. That a "
        "plan is finalized says that cuDNN has a kernel for the graph, not that it ran.\n",
        CUDNN_MAJOR, CUDNN_MINOR, CUDNN_PATCHLEVEL);
}

/* The line without what changes with cuDNN's version: of each GPU's cell whether there is a plan, + or -, or ? */
static void reduce(const char *line, char *reduced)
{
    char *out = reduced;
    int cell = 0;
    for (const char *c = line; *c && *c != '\n' && out < reduced + LINE_BYTES - 4; c++) {
        cell += *c == '|';
        if (cell <= 2 || *c == '|')
            *out++ = *c;
        else if (c[-1] == '|')
            *out++ = strncmp(c, " no ", 4) == 0 ? '-' : strncmp(c, " ? ", 3) == 0 ? '?' : '+';
    }
    *out = '\0';
}

/* Whether two reduced lines agree; what was not asked, then or now, agrees with anything. */
static bool agree(const char *was, const char *is)
{
    for (; *was && *is; was++, is++)
        if (*was != *is && *is != '?' && *was != '?')
            return false;
    return *was == *is;
}

static const char *next_row(FILE *file, char *line)
{
    while (fgets(line, LINE_BYTES, file))
        if (strncmp(line, "| `", 3) == 0)
            return line;
    return NULL;
}

/* Compares the rows of two files; the number of differences. */
static int compare(FILE *committed, FILE *now)
{
    char a[LINE_BYTES], b[LINE_BYTES], reduced_a[LINE_BYTES], reduced_b[LINE_BYTES];
    int failures = 0;
    for (;;) {
        const char *was = next_row(committed, a), *is = next_row(now, b);
        reduce(was ? was : "", reduced_a);
        reduce(is ? is : "", reduced_b);
        if (!was && !is)
            return failures;
        if (agree(reduced_a, reduced_b))
            continue;
        fprintf(stderr, "the table has: %s\nthere is:      %s\n", reduced_a, reduced_b);
        if (++failures == 5)
            return failures;
    }
}

static int write_or_compare(const char *path, bool write, const char *text)
{
    FILE *file = fopen(path, write ? "w" : "r");
    int failures = 1;
    if (!file) {
        fprintf(stderr, "%s cannot be opened\n", path);
        return 1;
    }
    if (write) {
        failures = fputs(text, file) < 0;
    } else {
        FILE *now = tmpfile();
        if (now && fputs(text, now) >= 0) {
            rewind(now);
            failures = compare(file, now);
            if (failures)
                fprintf(stderr, "%s is not what cuDNN says now; cudnn_plans %s --all --write renews it\n", path, path);
        }
        if (now)
            fclose(now);
    }
    return fclose(file) != 0 || failures;
}

/* ---- The whole ---- */

/* Shipped graphs must have a plan everywhere. */
static int report_refusals(const plan_graphs *graphs, const verdict *results)
{
    int failures = 0;
    double seconds = 0;
    int asked = 0;
    for (int i = 0; i < graphs->count * GPUS; i++) {
        seconds += results[i].seconds;
        asked += !results[i].skipped;
        if (results[i].status == CNN_OK)
            continue;
        fprintf(stderr, "%s: %s (%s): %s\n", gpus[i % GPUS].name, graphs->graph[i / GPUS].text,
                graphs->graph[i / GPUS].used, results[i].error);
        failures++;
    }
    printf("%d graphs on %d GPUs: %d plans in %.0f s, %d refused\n", graphs->count, GPUS, asked, seconds, failures);
    return failures;
}

static void skip_slow(const plan_graphs *graphs, verdict *results)
{
    for (int i = 0; i < graphs->count * GPUS; i++)
        results[i].skipped = graphs->graph[i / GPUS].slow;
}

int main(int argc, char **argv)
{
    static plan_graphs shipped, others;
    static verdict results[2][GRAPHS * GPUS];
    char json[GPU_JSON_BYTES];
    cnn_device *device = NULL;
    cnn_text text = {0};
    int failures = 1;
    bool all = false, write = false, usage = argc < 2;
    for (int i = 2; i < argc; i++) {
        all |= strcmp(argv[i], "--all") == 0;
        write |= strcmp(argv[i], "--write") == 0;
        usage |= strcmp(argv[i], "--all") != 0 && strcmp(argv[i], "--write") != 0;
    }
    if (usage) {
        fprintf(stderr, "usage: cudnn_plans TABLE [--all] [--write]\n");
        return 2;
    }
    if (cnn_cuda_open_described(cnn_host_get(), gpus[0].name, gpu_describe(&gpus[0], json), &device) != CNN_OK ||
        collect_shipped(device, &shipped) != CNN_OK) {
        fprintf(stderr, "%s\n", cnn_last_error());
    } else {
        collect_others(&others);
        if (!all)
            skip_slow(&shipped, results[0]);
        verdicts_run(shipped.graph, shipped.count, sizeof shipped.graph[0], judge_plan, results[0]);
        verdicts_run(others.graph, others.count, sizeof others.graph[0], judge_plan, results[1]);
        failures = report_refusals(&shipped, results[0]) + report_refusals(&others, results[1]) + check_negatives() +
                   check_cache();
        append_head(&text);
        append_rows(&text, "The shipped models, batches of 64 and 1", &shipped, results[0]);
        append_rows(&text, "Other networks", &others, results[1]);
        if (text.failed || write_or_compare(argv[1], write, text.data))
            failures++;
    }
    cnn_cuda_close(device);
    cnn_text_free(&text);
    return failures ? 1 : 0;
}
