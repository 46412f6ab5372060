/* cuDNN's backend descriptors on the CPU, as the files that check and run them see them. C++17.
 *
 * A descriptor is a type and attributes; an attribute is an array of elements of one type, which may be other
 * descriptors. descriptor.cpp holds the calls and the rules of attributes, graph_check.cpp what must hold of a graph,
 * and graph_run.cpp runs one. */
#ifndef CNN_CUDASIM_DESCRIPTOR_H
#define CNN_CUDASIM_DESCRIPTOR_H

#include "tests/cudasim/runtime.h"

#include <cudnn.h>

#include <cstring>
#include <map>
#include <memory>
#include <vector>

struct cudasim_descriptor;
typedef std::shared_ptr<const cudasim_descriptor> cudasim_shared;

struct cudasim_attribute {
    cudnnBackendAttributeType_t type = CUDNN_TYPE_INT64;
    int64_t count = 0;
    std::vector<unsigned char> bytes;
    std::vector<cudasim_shared> children; /* of CUDNN_TYPE_BACKEND_DESCRIPTOR, as they were when set */
};

struct cudasim_descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<int, cudasim_attribute> attributes;

    bool has(cudnnBackendAttributeName_t name) const
    {
        return attributes.count(name) > 0;
    }
    /* Element i, which must be there. */
    template <typename T> T get(cudnnBackendAttributeName_t name, int64_t i = 0) const
    {
        T value;
        memcpy(&value, attributes.at(name).bytes.data() + static_cast<size_t>(i) * sizeof value, sizeof value);
        return value;
    }
    template <typename T> T get_or(cudnnBackendAttributeName_t name, T otherwise) const
    {
        return has(name) ? get<T>(name) : otherwise;
    }
    int64_t count(cudnnBackendAttributeName_t name) const
    {
        return has(name) ? attributes.at(name).count : 0;
    }
    const cudasim_descriptor &child(cudnnBackendAttributeName_t name, int64_t i = 0) const
    {
        return *attributes.at(name).children[static_cast<size_t>(i)];
    }
    void put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void *elements,
             size_t element_bytes);
};

/* Keeps a sentence for cudnnGetLastErrorString() and returns the status. */
cudnnStatus_t cudasim_cudnn_fail(cudnnStatus_t status, const char *format, ...) __attribute__((format(printf, 2, 3)));
cudaStream_t cudasim_cudnn_stream(cudnnHandle_t handle);

/* ---- graph_check.cpp ---- */

/* What must hold of the attributes when a descriptor is finalized. */
cudnnStatus_t cudasim_check_descriptor(const cudasim_descriptor &descriptor);
/* Whether cuDNN has engines for a graph. */
bool cudasim_graph_supported(const cudasim_descriptor &graph);

/* How an operation uses the tensor behind an attribute. */
struct cudasim_port {
    cudnnBackendAttributeName_t name;
    bool written, required;
};
/* Ended by a name of CUDASIM_NO_PORT; NULL when the type is no operation. */
const cudasim_port *cudasim_ports(cudnnBackendDescriptorType_t type);
constexpr auto CUDASIM_NO_PORT = CUDNN_ATTR_DEVICEPROP_DEVICE_ID; /* no operation has it */

/* ---- graph_run.cpp ---- */

/* Engines, by global index. All compute the same but for how f32 operands are read. */
enum { CUDASIM_ENGINE_NONDETERMINISTIC, CUDASIM_ENGINE_TENSOR, CUDASIM_ENGINE_PLAIN, CUDASIM_ENGINES };

cudnnStatus_t cudasim_execute(cudaStream_t stream, const cudasim_descriptor &plan, const cudasim_descriptor &pack);

#endif
