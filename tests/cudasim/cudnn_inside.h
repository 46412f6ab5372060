/* Inside cuDNN on the CPU: handles, and what a plan is to do. C++17.
 *
 * A plan holds a copy of its graph as plain data, so that descriptors are looked at while a graph is finalized and
 * never again. Tensors are dense NHWC. */
#ifndef CNN_CUDASIM_CUDNN_INSIDE_H
#define CNN_CUDASIM_CUDNN_INSIDE_H

#include "tests/cudasim/runtime.h"

#include "cnn/tensor.h"

#include <cudnn.h>

#include <map>
#include <memory>
#include <vector>

struct cudnnContext {
    cudaStream_t stream = nullptr;
};

struct cudasim_tensor {
    int64_t id = 0;
    cnn_dtype dtype = CNN_NONE;
    int32_t n = 0, c = 0, h = 0, w = 0;
    bool is_virtual = false; /* between operations only: f32 or i32, never rounded to less */
    bool by_value = false;   /* one f32 in host memory */

    int64_t elements() const
    {
        return int64_t(n) * c * h * w;
    }
    cnn_tensor_desc desc(cnn_dtype as) const
    {
        return cnn_desc(as, n, h, w, c);
    }
};

/* One operation; tensors by the attribute that names them. */
struct cudasim_operation {
    cudnnBackendDescriptorType_t type = CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
    std::map<cudnnBackendAttributeName_t, cudasim_tensor> tensors;
    int32_t pad = 0, stride = 1;
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
};

struct cudasim_cudnn_graph {
    std::vector<cudasim_operation> operations;
};

/* Where the tensors that are in memory lie, by id; scalars are copied when the plan is executed. */
struct cudasim_pack {
    std::map<int64_t, void *> memory;
    std::map<int64_t, float> scalar;
};

/* The sentence that refuses an operation, or NULL: shapes, dtypes. */
const char *cudasim_refuse_operation(const cudasim_operation &operation);

/* Reports operands that are no device memory, or of the wrong size. */
void cudasim_need_operands(const cudasim_cudnn_graph &graph, const cudasim_pack &pack);

/* Does it all; while the device works. */
void cudasim_run_graph(const cudasim_cudnn_graph &graph, const cudasim_pack &pack);

#endif
