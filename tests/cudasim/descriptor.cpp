/* cudnnBackendCreateDescriptor() to cudnnBackendDestroyDescriptor(): attributes are held to the rules in the table, and
 * descriptors change only until they are finalized. */
#include "tests/cudasim/descriptor.h"

#include <cstdarg>
#include <cstdio>
#include <string>

namespace
{

constexpr int64_t MANY = 64;

struct rule {
    cudnnBackendDescriptorType_t owner;
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t least, most; /* elements */
    bool required;       /* for finalizing */
};

#define TYPE(name) CUDNN_BACKEND_##name##_DESCRIPTOR
#define RULE(owner, name, type, least, most, required)                           \
    {                                                                            \
        TYPE(owner), CUDNN_ATTR_##name, CUDNN_TYPE_##type, least, most, required \
    }
#define CHILD(owner, name, required) RULE(owner, name, BACKEND_DESCRIPTOR, 1, 1, required)

const rule rules[] = {
    RULE(TENSOR, TENSOR_UNIQUE_ID, INT64, 1, 1, true),
    RULE(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, 1, true),
    RULE(TENSOR, TENSOR_DIMENSIONS, INT64, 1, CUDNN_DIM_MAX, true),
    RULE(TENSOR, TENSOR_STRIDES, INT64, 1, CUDNN_DIM_MAX, true),
    RULE(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, 1, true),
    RULE(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 1, 1, false),
    RULE(TENSOR, TENSOR_IS_BY_VALUE, BOOLEAN, 1, 1, false),
    RULE(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, 1, true),
    RULE(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, 1, true),
    RULE(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64, 1, 1, true),
    RULE(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, INT64, 1, CUDNN_DIM_MAX, true),
    RULE(CONVOLUTION, CONVOLUTION_POST_PADDINGS, INT64, 1, CUDNN_DIM_MAX, true),
    RULE(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, INT64, 1, CUDNN_DIM_MAX, true),
    RULE(CONVOLUTION, CONVOLUTION_DILATIONS, INT64, 1, CUDNN_DIM_MAX, true),
    CHILD(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_CONV_DESC, true),
    CHILD(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_X, true),
    CHILD(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_W, true),
    CHILD(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_Y, true),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_ALPHA, FLOAT, 1, 1, false),
    RULE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_BETA, FLOAT, 1, 1, false),
    CHILD(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, true),
    CHILD(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_DX, true),
    CHILD(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_W, true),
    CHILD(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_DY, true),
    RULE(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_ALPHA, FLOAT, 1, 1, false),
    RULE(OPERATION_CONVOLUTION_BACKWARD_DATA, OPERATION_CONVOLUTION_BWD_DATA_BETA, FLOAT, 1, 1, false),
    CHILD(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, true),
    CHILD(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_X, true),
    CHILD(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_DW, true),
    CHILD(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_DY, true),
    RULE(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, FLOAT, 1, 1, false),
    RULE(OPERATION_CONVOLUTION_BACKWARD_FILTER, OPERATION_CONVOLUTION_BWD_FILTER_BETA, FLOAT, 1, 1, false),
    RULE(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, 1, 1, true),
    RULE(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, 1, 1, true),
    CHILD(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, true),
    CHILD(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, true),
    CHILD(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, false),
    CHILD(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, true),
    RULE(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_MODE, NORM_MODE, 1, 1, true),
    RULE(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_PHASE, NORM_FWD_PHASE, 1, 1, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_XDESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_SCALE_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_BIAS_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_EPSILON_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_MEAN_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_INV_VARIANCE_DESC, true),
    CHILD(OPERATION_NORM_FORWARD, OPERATION_NORM_FWD_YDESC, true),
    RULE(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_MODE, NORM_MODE, 1, 1, true),
    CHILD(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_XDESC, true),
    CHILD(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_DYDESC, true),
    CHILD(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_SCALE_DESC, true),
    CHILD(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_MEAN_DESC, true),
    CHILD(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_INV_VARIANCE_DESC, true),
    CHILD(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_DSCALE_DESC, true),
    CHILD(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_DBIAS_DESC, true),
    CHILD(OPERATION_NORM_BACKWARD, OPERATION_NORM_BWD_DXDESC, true),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, 1, true),
    RULE(OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, MANY, true),
    CHILD(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, true),
    RULE(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, 1, true),
    RULE(ENGINEHEUR, ENGINEHEUR_RESULTS, BACKEND_DESCRIPTOR, 1, MANY, false),
    CHILD(ENGINE, ENGINE_OPERATION_GRAPH, true),
    RULE(ENGINE, ENGINE_GLOBAL_INDEX, INT64, 1, 1, true),
    RULE(ENGINE, ENGINE_NUMERICAL_NOTE, NUMERICAL_NOTE, 0, MANY, false),
    RULE(ENGINE, ENGINE_BEHAVIOR_NOTE, BEHAVIOR_NOTE, 0, MANY, false),
    RULE(KNOB_CHOICE, KNOB_CHOICE_KNOB_TYPE, KNOB_TYPE, 1, 1, true),
    RULE(KNOB_CHOICE, KNOB_CHOICE_KNOB_VALUE, INT64, 1, 1, true),
    CHILD(ENGINECFG, ENGINECFG_ENGINE, true),
    RULE(ENGINECFG, ENGINECFG_KNOB_CHOICES, BACKEND_DESCRIPTOR, 0, MANY, false),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, 1, true),
    CHILD(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, true),
    RULE(EXECUTION_PLAN, EXECUTION_PLAN_WORKSPACE_SIZE, INT64, 1, 1, false),
    RULE(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, 1, MANY, true),
    RULE(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, 1, MANY, true),
    RULE(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, 1, true),
};

typedef std::map<cudnnBackendDescriptor_t, std::shared_ptr<cudasim_descriptor>> descriptors;

descriptors &all()
{
    static descriptors *const made = new descriptors;
    return *made;
}

/* Never the same twice, so that one which was destroyed is known. */
cudnnBackendDescriptor_t new_handle()
{
    static uintptr_t last = 0;
    return reinterpret_cast<cudnnBackendDescriptor_t>(last += 16);
}

thread_local std::string last_error;

size_t element_bytes(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return 8;
    default:
        return 4; /* enumerations, float */
    }
}

bool is_known(cudnnBackendDescriptorType_t type)
{
    for (const rule &row : rules)
        if (row.owner == type)
            return true;
    return false;
}

const rule &find_rule(cudnnBackendDescriptorType_t owner, cudnnBackendAttributeName_t name)
{
    for (const rule &row : rules)
        if (row.owner == owner && row.name == name)
            return row;
    cudasim_report("cuDNN: attribute %d of descriptors of type %d is not modelled", static_cast<int>(name),
                   static_cast<int>(owner));
}

const std::shared_ptr<cudasim_descriptor> &find(cudnnBackendDescriptor_t descriptor, const char *call)
{
    cudasim_need(CUDASIM_CUDNN_DESCRIPTOR, descriptor, call);
    return all().at(descriptor);
}

/* Read-only attributes are those that finalizing works out. */
bool is_result(cudnnBackendAttributeName_t name)
{
    return name == CUDNN_ATTR_ENGINEHEUR_RESULTS || name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE ||
           name == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE || name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE;
}

cudnnStatus_t set_children(cudasim_attribute *attribute, int64_t count, const void *elements)
{
    for (int64_t i = 0; i < count; i++) {
        cudnnBackendDescriptor_t child;
        memcpy(&child, static_cast<const char *>(elements) + i * 8, sizeof child);
        if (!child)
            return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "descriptor %d is NULL",
                                      static_cast<int>(i));
        const auto &found = find(child, "cudnnBackendSetAttribute");
        if (!found->finalized)
            return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "descriptor %d is not finalized",
                                      static_cast<int>(i));
        attribute->children.push_back(std::make_shared<cudasim_descriptor>(*found));
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- What finalizing works out ---- */

std::shared_ptr<cudasim_descriptor> made(cudnnBackendDescriptorType_t type)
{
    auto descriptor = std::make_shared<cudasim_descriptor>();
    descriptor->type = type;
    descriptor->finalized = true;
    return descriptor;
}

void put_children(cudasim_descriptor *owner, cudnnBackendAttributeName_t name, std::vector<cudasim_shared> children)
{
    cudasim_attribute &attribute = owner->attributes[name];
    attribute.type = CUDNN_TYPE_BACKEND_DESCRIPTOR;
    attribute.count = static_cast<int64_t>(children.size());
    attribute.children = std::move(children);
}

cudnnStatus_t finish_engine(cudasim_descriptor *engine)
{
    static const int notes[CUDASIM_ENGINES][2] = {
        {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC},
        {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS},
        {0, 0}};
    static const int counts[CUDASIM_ENGINES] = {2, 2, 0};
    const int64_t number = engine->get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    if (number < 0 || number >= CUDASIM_ENGINES)
        return cudasim_cudnn_fail(CUDNN_STATUS_NOT_SUPPORTED, "there is no engine %lld",
                                  static_cast<long long>(number));
    if (!cudasim_graph_supported(engine->child(CUDNN_ATTR_ENGINE_OPERATION_GRAPH)))
        return cudasim_cudnn_fail(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "the engine cannot run the graph");
    engine->put(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, counts[number], notes[number], 4);
    engine->put(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, 0, nullptr, 4);
    return CUDNN_STATUS_SUCCESS;
}

/* All engines, the best first: the one that a caller must not take, the one that it may take for some. Each has a knob.
 */
void finish_heuristic(cudasim_descriptor *heuristic)
{
    std::vector<cudasim_shared> configs;
    const auto &graph = heuristic->attributes.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).children;
    for (int64_t number = 0; number < CUDASIM_ENGINES && cudasim_graph_supported(*graph[0]); number++) {
        auto engine = made(TYPE(ENGINE)), knob = made(TYPE(KNOB_CHOICE)), config = made(TYPE(ENGINECFG));
        const int knob_type = CUDNN_KNOB_TYPE_TILE_SIZE;
        const int64_t knob_value = number + 1;
        put_children(engine.get(), CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
        engine->put(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &number, 8);
        finish_engine(engine.get());
        knob->put(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &knob_type, 4);
        knob->put(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &knob_value, 8);
        put_children(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE, {engine});
        put_children(config.get(), CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, {knob});
        configs.push_back(config);
    }
    put_children(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, std::move(configs));
}

/* Engines with a workspace that is not round, so that who rounds it badly is found; the plain one has none. */
cudnnStatus_t finish_plan(cudasim_descriptor *plan)
{
    const cudasim_descriptor &config = plan->child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const int64_t number = config.child(CUDNN_ATTR_ENGINECFG_ENGINE).get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    const int64_t bytes = number == CUDASIM_ENGINE_PLAIN ? 0 : 54321;
    if (cudasim_refuse())
        return cudasim_cudnn_fail(CUDNN_STATUS_ALLOC_FAILED, "no memory for a plan");
    plan->put(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes, 8);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finish(cudasim_descriptor *descriptor)
{
    switch (descriptor->type) {
    case TYPE(ENGINE):
        return finish_engine(descriptor);
    case TYPE(ENGINEHEUR):
        finish_heuristic(descriptor);
        return CUDNN_STATUS_SUCCESS;
    case TYPE(EXECUTION_PLAN):
        return finish_plan(descriptor);
    default:
        return CUDNN_STATUS_SUCCESS;
    }
}

/* Children are read into descriptors that the caller has made. */
cudnnStatus_t get_children(const cudasim_attribute &attribute, int64_t room, void *elements)
{
    for (int64_t i = 0; i < room && i < attribute.count; i++) {
        cudnnBackendDescriptor_t into;
        memcpy(&into, static_cast<const char *>(elements) + i * 8, sizeof into);
        const auto &found = find(into, "cudnnBackendGetAttribute");
        const cudasim_descriptor &child = *attribute.children[static_cast<size_t>(i)];
        if (found->type != child.type)
            return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "descriptor %d is of another type",
                                      static_cast<int>(i));
        *found = child;
    }
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

void cudasim_descriptor::put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t kind, int64_t elements_count,
                             const void *elements, size_t bytes_each)
{
    const auto *bytes = static_cast<const unsigned char *>(elements);
    cudasim_attribute &attribute = attributes[name];
    attribute.type = kind;
    attribute.count = elements_count;
    attribute.bytes.assign(bytes, bytes + static_cast<size_t>(elements_count) * bytes_each);
}

/* ---- Errors ---- */

cudnnStatus_t cudasim_cudnn_fail(cudnnStatus_t status, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    last_error = text;
    return status;
}

void cudnnGetLastErrorString(char *message, size_t room)
{
    if (room > 0)
        snprintf(message, room, "%s", last_error.c_str());
    last_error.clear();
}

/* ---- Calls ---- */

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *descriptor)
{
    CUDASIM_LOCKED;
    if (!is_known(type))
        return cudasim_cudnn_fail(CUDNN_STATUS_NOT_SUPPORTED, "descriptors of type %d are not modelled",
                                  static_cast<int>(type));
    if (cudasim_refuse())
        return cudasim_cudnn_fail(CUDNN_STATUS_ALLOC_FAILED, "no memory for a descriptor");
    auto created = std::make_shared<cudasim_descriptor>();
    created->type = type;
    *descriptor = new_handle();
    all()[*descriptor] = created;
    cudasim_add(CUDASIM_CUDNN_DESCRIPTOR, *descriptor, cudasim_device());
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor)
{
    CUDASIM_LOCKED;
    cudasim_remove(CUDASIM_CUDNN_DESCRIPTOR, descriptor, "cudnnBackendDestroyDescriptor");
    all().erase(descriptor);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *elements)
{
    CUDASIM_LOCKED;
    const auto &found = find(descriptor, "cudnnBackendSetAttribute");
    const rule &row = find_rule(found->type, name);
    if (found->finalized)
        return cudasim_cudnn_fail(CUDNN_STATUS_NOT_INITIALIZED, "the descriptor is finalized");
    if (is_result(name))
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "attribute %d can only be read", static_cast<int>(name));
    if (type != row.type)
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute %d has type %d, not %d",
                                  static_cast<int>(name), static_cast<int>(row.type), static_cast<int>(type));
    if (count < row.least || count > row.most)
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND, "attribute %d with %lld elements",
                                  static_cast<int>(name), static_cast<long long>(count));
    if (!elements)
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "attribute %d: no elements",
                                  static_cast<int>(name));
    cudasim_attribute attribute;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        const cudnnStatus_t status = set_children(&attribute, count, elements);
        if (status != CUDNN_STATUS_SUCCESS)
            return status;
    }
    found->put(name, type, count, elements, element_bytes(type));
    found->attributes[name].children = std::move(attribute.children);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *elements)
{
    CUDASIM_LOCKED;
    const auto &found = find(descriptor, "cudnnBackendGetAttribute");
    const rule &row = find_rule(found->type, name);
    if (!found->finalized)
        return cudasim_cudnn_fail(CUDNN_STATUS_NOT_INITIALIZED, "the descriptor is not finalized");
    if (type != row.type || room < 0)
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute %d has type %d, not %d",
                                  static_cast<int>(name), static_cast<int>(row.type), static_cast<int>(type));
    const int64_t there = found->count(name);
    if (count)
        *count = there;
    if (room == 0 || there == 0)
        return CUDNN_STATUS_SUCCESS;
    const cudasim_attribute &attribute = found->attributes.at(name);
    if (count)
        *count = room < there ? room : there;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return get_children(attribute, room, elements);
    memcpy(elements, attribute.bytes.data(), static_cast<size_t>(room < there ? room : there) * element_bytes(type));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
    CUDASIM_LOCKED;
    const auto &found = find(descriptor, "cudnnBackendFinalize");
    if (found->finalized)
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "the descriptor is finalized already");
    for (const rule &row : rules)
        if (row.owner == found->type && row.required && !found->has(row.name))
            return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "attribute %d is not set", static_cast<int>(row.name));
    cudnnStatus_t status = cudasim_check_descriptor(*found);
    if (status == CUDNN_STATUS_SUCCESS)
        status = finish(found.get());
    found->finalized = status == CUDNN_STATUS_SUCCESS;
    return status;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_CUDNN_HANDLE, handle, "cudnnBackendExecute");
    const auto &planned = find(plan, "cudnnBackendExecute"), &packed = find(pack, "cudnnBackendExecute");
    if (!planned->finalized || !packed->finalized || planned->type != TYPE(EXECUTION_PLAN) ||
        packed->type != TYPE(VARIANT_PACK))
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "no finalized plan and variant pack");
    if (planned->get<cudnnHandle_t>(CUDNN_ATTR_EXECUTION_PLAN_HANDLE) != handle)
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "the plan is of another handle");
    return cudasim_execute(cudasim_cudnn_stream(handle), *planned, *packed);
}
