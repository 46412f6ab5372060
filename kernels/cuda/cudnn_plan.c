/* Engines and plans.
 *
 * Not every engine will do. Same inputs must give the same bits, so engines noted nondeterministic are out. Sums are
 * f32: no reduced-precision reduction. f32 operands stay f32 unless the user allowed TF32: no tensor cores, which round
 * f32 operands to TF32, and no conversion of inputs. Winograd and FFT have other error bounds than a sum has, and
 * kcheck holds a convolution of this backend to those of a sum. INT8 filters are in the order of the file, never
 * reordered. */
#include "kernels/cuda/cudnn_plan.h"

#include "kernels/cuda/cudnn_cache.h"
#include "kernels/cuda/cudnn_tune.h"
#include "kernels/cuda/device.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

enum { CONFIGS = 32 }; /* engine configurations asked for, of each of the two heuristics */
enum { MEASURED = 6 }; /* plans that --autotune measures */

#define NOTE(name) (1u << CUDNN_NUMERICAL_NOTE_##name)
#define BEHAVIOR(name) (1u << CUDNN_BEHAVIOR_NOTE_##name)

static const uint32_t never = NOTE(NONDETERMINISTIC) | NOTE(REDUCED_PRECISION_REDUCTION) | NOTE(FFT) | NOTE(WINOGRAD) |
                              NOTE(WINOGRAD_TILE_4x4) | NOTE(WINOGRAD_TILE_6x6) | NOTE(WINOGRAD_TILE_13x13);
static const uint32_t rounds_f32 = NOTE(TENSOR_CORE) | NOTE(DOWN_CONVERT_INPUTS);
static const uint32_t reorders = BEHAVIOR(REQUIRES_FILTER_INT8x32_REORDER) | BEHAVIOR(REQUIRES_BIAS_INT8x32_REORDER);

/* Engine configurations of a graph. */
typedef struct candidates {
    int count;
    cudnnBackendDescriptor_t config[2 * CONFIGS];
} candidates;

/* ---- What an engine is ---- */

/* Notes as bits; enum values of cuDNN are ints. */
static uint32_t read_notes(cudnnBackendDescriptor_t engine, cudnnBackendAttributeName_t attribute,
                           cudnnBackendAttributeType_t type)
{
    int notes[32] = {0};
    int64_t count = 0;
    uint32_t bits = 0;
    if (cudnnBackendGetAttribute(engine, attribute, type, 32, &count, notes) != CUDNN_STATUS_SUCCESS)
        return 0;
    for (int64_t i = 0; i < count && i < 32; i++)
        bits |= notes[i] < 32 ? 1u << notes[i] : 0;
    return bits;
}

static bool is_f32_product(const cnn_cudnn_graph *graph)
{
    const cnn_cudnn_node *node = &graph->nodes[0];
    return node->kind <= CNN_CUDNN_WGRAD && graph->tensors[node->port[1]].dtype == CUDNN_DATA_FLOAT &&
           graph->tensors[node->port[0]].dtype == CUDNN_DATA_FLOAT;
}

/* Engines that round f32 operands to TF32 without a note that says so: cuDNN 9.19 on an H200, kcheck's bound of a sum.
 */
static bool rounds_silently(const cnn_cudnn_plan *plan)
{
    return plan->graph.nodes[0].kind == CNN_CUDNN_WGRAD && plan->engine == 17;
}

static bool is_int8(const cnn_cudnn_graph *graph)
{
    return graph->tensors[graph->nodes[0].port[0]].dtype == CUDNN_DATA_INT8;
}

static bool allowed(const cnn_cudnn_plan *plan, uint32_t wanted)
{
    uint32_t excluded = never;
    if (is_f32_product(&plan->graph) && !plan->device->tf32) {
        excluded |= rounds_f32;
        if (rounds_silently(plan))
            return false;
    }
    return !(plan->numerical_notes & excluded) && !(plan->behavior_notes & reorders) &&
           (plan->numerical_notes & wanted) == wanted;
}

static void get(cnn_cudnn_maker *maker, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t attribute,
                cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *values, const char *what)
{
    if (maker->status == CNN_OK)
        maker->status =
            cnn_cudnn_check(maker, cudnnBackendGetAttribute(descriptor, attribute, type, room, count, values),
                            "cudnnBackendGetAttribute", what);
}

#define GET(maker, descriptor, attribute, type, room, count, values) \
    get(maker, descriptor, attribute, type, room, count, values, #attribute)

/* Fills in which engine a configuration is of, and its notes. */
static void read_config(cnn_cudnn_plan *plan, cudnnBackendDescriptor_t config)
{
    cnn_cudnn_maker *maker = &plan->maker;
    int64_t count = 0;
    cudnnBackendDescriptor_t engine = cnn_cudnn_create(maker, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    GET(maker, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine);
    GET(maker, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count, &plan->engine);
    if (maker->status != CNN_OK)
        return;
    plan->numerical_notes = read_notes(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE);
    plan->behavior_notes = read_notes(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE);
}

/* ---- Choosing ---- */

/* Appends what one heuristic offers. A heuristic that has nothing to say is no failure. */
static void ask(cnn_cudnn_plan *plan, cudnnBackendHeurMode_t mode, candidates *list)
{
    cnn_cudnn_maker *maker = &plan->maker;
    int64_t offered = 0, got = 0;
    cudnnBackendDescriptor_t heuristic = cnn_cudnn_create(maker, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    CNN_CUDNN_SET(maker, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                  &plan->graph_descriptor);
    CNN_CUDNN_SET(maker, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (plan->device->described)
        CNN_CUDNN_SET(maker, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                      &plan->device->described);
    cnn_cudnn_finalize(maker, heuristic, "heuristic");
    GET(maker, heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &offered, NULL);
    if (offered > CONFIGS)
        offered = CONFIGS;
    for (int64_t i = 0; i < offered; i++)
        list->config[list->count + i] = cnn_cudnn_create(maker, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (offered > 0)
        GET(maker, heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, offered, &got,
            &list->config[list->count]);
    if (maker->status == CNN_OK)
        list->count += (int)got;
    else if (maker->status == CNN_ERR_UNSUPPORTED)
        maker->status = CNN_OK;
}

/* Finalizes the plan of a configuration, or of its JSON form. */
static void finish(cnn_cudnn_plan *plan, cudnnBackendDescriptor_t config, const char *json, size_t json_bytes)
{
    cnn_cudnn_maker *maker = &plan->maker;
    int64_t bytes = 0, count = 0;
    cudnnBackendDescriptor_t made = cnn_cudnn_create(maker, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (json)
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)json_bytes,
                      json);
    else
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    if (plan->handle)
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &plan->handle);
    else if (json) /* else the configuration knows the device */
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                      &plan->device->described);
    cnn_cudnn_finalize(maker, made, "plan");
    GET(maker, made, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &bytes);
    plan->descriptor = made;
    plan->workspace_bytes = (size_t)bytes;
}

/* Goes back to where nothing was tried. */
static void undo(cnn_cudnn_plan *plan, int kept)
{
    plan->maker.status = CNN_OK;
    cnn_cudnn_release(&plan->maker, kept);
    plan->descriptor = NULL;
}

/* True when the configuration is allowed, has the notes wanted, and a plan could be made of it. A failure to make one
 * is passed over: the next candidate may do. */
static bool try_config(cnn_cudnn_plan *plan, cudnnBackendDescriptor_t config, uint32_t wanted)
{
    cnn_cudnn_maker *maker = &plan->maker;
    int kept = maker->count;
    maker->quiet = true;
    read_config(plan, config);
    if (maker->status == CNN_OK && allowed(plan, wanted))
        finish(plan, config, NULL, 0);
    else if (maker->status == CNN_OK)
        maker->status = CNN_ERR_UNSUPPORTED;
    maker->quiet = false;
    if (maker->status == CNN_OK)
        return true;
    undo(plan, kept);
    return false;
}

static bool try_cache(cnn_cudnn_plan *plan)
{
    size_t bytes = 0;
    int kept = plan->maker.count;
    char *json = cnn_cudnn_cache_load(plan, &bytes);
    if (!json)
        return false;
    plan->maker.quiet = true;
    finish(plan, NULL, json, bytes);
    plan->maker.quiet = false;
    plan->device->host->free(json);
    plan->cached = plan->maker.status == CNN_OK;
    if (!plan->cached)
        undo(plan, kept);
    return plan->cached;
}

/* The fastest of the first few; false when none could be measured. */
static bool measure(cnn_cudnn_plan *plan, const candidates *list)
{
    cnn_cudnn_bench bench;
    int best = -1, measured = 0;
    float best_ms = FLT_MAX;
    if (cnn_cudnn_bench_open(plan->device, &plan->graph, &bench) != CNN_OK)
        return false;
    for (int i = 0; i < list->count && measured < MEASURED; i++) {
        const int kept = plan->maker.count;
        float ms = FLT_MAX;
        if (!try_config(plan, list->config[i], 0))
            continue;
        measured++;
        if (cnn_cudnn_bench_run(&bench, plan, best_ms, &ms) == CNN_OK && ms < best_ms) {
            best_ms = ms;
            best = i;
        }
        undo(plan, kept);
    }
    cnn_cudnn_bench_close(&bench);
    return best >= 0 && try_config(plan, list->config[best], 0);
}

/* The first that will do. i32 sums of INT8 products are exact in any engine, but the heuristics put engines without
 * tensor cores first. */
static bool take_first(cnn_cudnn_plan *plan, const candidates *list)
{
    for (int i = 0; i < list->count && is_int8(&plan->graph); i++)
        if (try_config(plan, list->config[i], NOTE(TENSOR_CORE)))
            return true;
    for (int i = 0; i < list->count; i++)
        if (try_config(plan, list->config[i], 0))
            return true;
    return false;
}

static cnn_status choose(cnn_cudnn_plan *plan)
{
    cnn_cudnn_maker *maker = &plan->maker;
    candidates list = {0};
    char text[CNN_CUDNN_TEXT_BYTES];
    const bool tunes = plan->handle && plan->device->autotune;
    if (try_cache(plan))
        return CNN_OK;
    ask(plan, CUDNN_HEUR_MODE_A, &list);
    ask(plan, CUDNN_HEUR_MODE_FALLBACK, &list);
    if (maker->status != CNN_OK)
        return maker->status;
    if ((tunes && measure(plan, &list)) || take_first(plan, &list)) {
        if (tunes || plan->behavior_notes & BEHAVIOR(RUNTIME_COMPILATION))
            cnn_cudnn_cache_store(plan);
        return CNN_OK;
    }
    return plan->device->host->error(
        CNN_ERR_UNSUPPORTED,
        "device " CNN_CUDA_NAME ": %s: cuDNN %d.%d offers %d engines for %s, none that may be used", maker->subject,
        CUDNN_MAJOR, CUDNN_MINOR, list.count, cnn_cudnn_graph_print(&plan->graph, text));
}

/* ---- Plans ---- */

cnn_status cnn_cudnn_plan_make(cnn_device *device, const cnn_cudnn_graph *graph, const char *subject,
                               cnn_cudnn_plan **made)
{
    cudnnHandle_t handle = NULL;
    cnn_status status = device->described ? CNN_OK : cnn_cuda_cudnn(device, &handle);
    if (status != CNN_OK)
        return status;
    cnn_cudnn_plan *plan = device->host->alloc(sizeof *plan);
    if (!plan)
        return device->host->error(CNN_ERR_MEMORY, "device " CNN_CUDA_NAME ": out of memory for a plan");
    memset(plan, 0, sizeof *plan);
    plan->device = device;
    plan->handle = handle;
    plan->graph = *graph;
    snprintf(plan->subject, sizeof plan->subject, "%s", subject);
    plan->maker = (cnn_cudnn_maker){.host = device->host, .subject = plan->subject};
    plan->graph_descriptor = cnn_cudnn_graph_make(&plan->maker, graph, handle);
    status = plan->maker.status;
    if (status == CNN_OK)
        status = choose(plan);
    if (status == CNN_OK)
        *made = plan;
    else
        cnn_cudnn_plan_free(plan);
    return status;
}

void cnn_cudnn_plan_free(cnn_cudnn_plan *plan)
{
    if (!plan)
        return;
    if (plan->pack)
        (void)cudnnBackendDestroyDescriptor(plan->pack);
    cnn_cudnn_release(&plan->maker, 0);
    plan->device->host->free(plan);
}

/* ---- Running ---- */

/* The ids and pointers of the tensors that are in memory. */
static int gather(const cnn_cudnn_graph *graph, void *const *pointers, int64_t *ids, void **gathered)
{
    int count = 0;
    for (int i = 0; i < graph->tensor_count; i++)
        if (!graph->tensors[i].is_virtual) {
            ids[count] = i + 1;
            gathered[count++] = pointers[i];
        }
    return count;
}

/* A pack cannot be changed once finalized, so another one replaces it. */
static cnn_status make_pack(cnn_cudnn_plan *plan, int count, const int64_t *ids, void *const *pointers, void *workspace)
{
    cnn_cudnn_maker maker = {.host = plan->device->host, .subject = plan->subject};
    cudnnBackendDescriptor_t pack = cnn_cudnn_create(&maker, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    CNN_CUDNN_SET(&maker, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    CNN_CUDNN_SET(&maker, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers);
    CNN_CUDNN_SET(&maker, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    cnn_cudnn_finalize(&maker, pack, "variant pack");
    if (maker.status != CNN_OK) {
        cnn_cudnn_release(&maker, 0);
        return maker.status;
    }
    if (plan->pack)
        (void)cudnnBackendDestroyDescriptor(plan->pack);
    plan->pack = pack;
    memcpy(plan->packed, pointers, sizeof *pointers * (size_t)count);
    plan->scratch = workspace;
    return CNN_OK;
}

cnn_status cnn_cudnn_plan_run(cnn_cudnn_plan *plan, void *const *pointers, void *workspace)
{
    int64_t ids[CNN_CUDNN_TENSORS];
    void *gathered[CNN_CUDNN_TENSORS];
    int count = gather(&plan->graph, pointers, ids, gathered);
    if (!plan->pack || plan->scratch != workspace ||
        memcmp(plan->packed, gathered, sizeof *gathered * (size_t)count) != 0) {
        cnn_status status = make_pack(plan, count, ids, gathered, workspace);
        if (status != CNN_OK)
            return status;
    }
    return cnn_cudnn_check(&plan->maker, cudnnBackendExecute(plan->handle, plan->descriptor, plan->pack),
                           "cudnnBackendExecute", plan->graph.tensors[0].name);
}
