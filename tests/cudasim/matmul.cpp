/* D = epilogue(op(A) op(B)): loops over dense f32 copies of A and B; of i8, sums of products as they lie. */
#include "tests/cudasim/matmul.h"

#include "tests/cudasim/numbers.h"
#include "tests/cudasim/runtime.h"

#include <cmath>
#include <vector>

namespace
{

/* op(A) as f32 [k][m], op(B) as [n][k]: in both, neighbours lie together. */
std::vector<float> as_floats(const cudasim_matrix_layout &layout, const void *data, bool columns_apart)
{
    std::vector<float> floats(static_cast<size_t>(layout.rows * layout.columns));
    for (int64_t j = 0; j < layout.columns; j++)
        for (int64_t i = 0; i < layout.rows; i++)
            floats[static_cast<size_t>(columns_apart ? j * layout.rows + i : i * layout.columns + j)] =
                cudasim_load(data, layout.dtype, j * layout.pitch + i);
    return floats;
}

/* d[j][0..m) += sum over k of b[j][k] * a[k][0..m), four columns at once, in pieces of a that stay in the cache. */
void add_products(const cudasim_multiplication &x, const float *a, const float *b, float *d)
{
    constexpr int64_t PIECE = 512, COLUMNS = 4;
    for (int64_t i = 0; i < x.m; i += PIECE)
        for (int64_t j = 0; j < x.n; j += COLUMNS) {
            const int64_t rows = x.m - i < PIECE ? x.m - i : PIECE, columns = x.n - j < COLUMNS ? x.n - j : COLUMNS;
            for (int64_t k = 0; k < x.k; k++)
                for (int64_t c = 0; c < columns; c++) {
                    const float factor = b[(j + c) * x.k + k];
                    const float *row = a + k * x.m + i;
                    float *to = d + (j + c) * x.m + i;
                    for (int64_t r = 0; r < rows; r++)
                        to[r] += factor * row[r];
                }
        }
}

/* The sums of the rows of op(A) (BGRADA) or the columns of op(B) (BGRADB), over k. */
void sum_operand(const cudasim_multiplication &x, const float *a, const float *b)
{
    const bool of_a = x.p.epilogue == CUBLASLT_EPILOGUE_BGRADA;
    const int64_t count = of_a ? x.m : x.n;
    for (int64_t i = 0; i < count; i++) {
        float sum = 0;
        for (int64_t k = 0; k < x.k; k++)
            sum += of_a ? a[k * x.m + i] : b[i * x.k + k];
        cudasim_store(x.p.bias, x.d.dtype, i, sum);
    }
}

void multiply_floats(const cudasim_multiplication &x)
{
    const std::vector<float> a = as_floats(x.a, x.a_data, !x.p.a_transposed);
    const std::vector<float> b = as_floats(x.b, x.b_data, !x.p.b_transposed);
    std::vector<float> d(static_cast<size_t>(x.m * x.n), 0.0f);
    add_products(x, a.data(), b.data(), d.data());
    if (cudasim_sums_operand(x.p.epilogue))
        sum_operand(x, a.data(), b.data());
    for (int64_t j = 0; j < x.n; j++)
        for (int64_t i = 0; i < x.m; i++) {
            float value = d[static_cast<size_t>(j * x.m + i)];
            if (cudasim_adds_bias(x.p.epilogue))
                value += cudasim_load(x.p.bias, x.d.dtype, i);
            if (cudasim_rectifies(x.p.epilogue))
                value = value > 0 || std::isnan(value) ? value : 0;
            cudasim_store(x.d_data, x.d.dtype, j * x.d.pitch + i, value);
        }
}

/* A is transposed and B is not: both rows over k lie together. */
void multiply_i8(const cudasim_multiplication &x)
{
    const auto *a = static_cast<const int8_t *>(x.a_data), *b = static_cast<const int8_t *>(x.b_data);
    for (int64_t j = 0; j < x.n; j++)
        for (int64_t i = 0; i < x.m; i++) {
            int32_t sum = 0;
            for (int64_t k = 0; k < x.k; k++)
                sum += a[i * x.a.pitch + k] * b[j * x.b.pitch + k];
            static_cast<int32_t *>(x.d_data)[j * x.d.pitch + i] = sum;
        }
}

size_t bytes_of(const cudasim_matrix_layout &layout)
{
    return static_cast<size_t>(layout.extent()) * cnn_dtype_bytes(layout.dtype);
}

size_t bias_bytes(const cudasim_multiplication &x)
{
    return static_cast<size_t>(x.p.epilogue == CUBLASLT_EPILOGUE_BGRADB ? x.n : x.m) * cnn_dtype_bytes(x.d.dtype);
}

/* Nothing that is written overlaps with anything else. */
void need_apart(const cudasim_multiplication &x)
{
    const bool bias = cudasim_adds_bias(x.p.epilogue) || cudasim_sums_operand(x.p.epilogue);
    const struct {
        const void *start;
        size_t bytes;
        bool written;
    } ranges[] = {{x.a_data, bytes_of(x.a), false},
                  {x.b_data, bytes_of(x.b), false},
                  {x.d_data, bytes_of(x.d), true},
                  {x.workspace, x.workspace_bytes, true},
                  {x.p.bias, bias ? bias_bytes(x) : 0, cudasim_sums_operand(x.p.epilogue)}};
    for (const auto &one : ranges)
        for (const auto &other : ranges) {
            const char *first = static_cast<const char *>(one.start), *second = static_cast<const char *>(other.start);
            if (&one != &other && one.written && first < second + other.bytes && second < first + one.bytes)
                cudasim_report("cublasLtMatmul: D, the workspace or the bias gradient overlaps with another operand");
        }
}

} // namespace

void cudasim_need_operands(const cudasim_multiplication &x)
{
    cudasim_need_device(x.a_data, bytes_of(x.a), "cublasLtMatmul, A");
    cudasim_need_device(x.b_data, bytes_of(x.b), "cublasLtMatmul, B");
    cudasim_need_device(x.d_data, bytes_of(x.d), "cublasLtMatmul, D");
    cudasim_need_device(x.workspace, x.workspace_bytes, "cublasLtMatmul, workspace");
    if (cudasim_adds_bias(x.p.epilogue) || cudasim_sums_operand(x.p.epilogue))
        cudasim_need_device(x.p.bias, bias_bytes(x), "cublasLtMatmul, bias");
    need_apart(x);
}

void cudasim_multiply(const cudasim_multiplication &x)
{
    cudasim_need_operands(x);
    cudasim_need_written(x.a_data, bytes_of(x.a), "cublasLtMatmul, A");
    cudasim_need_written(x.b_data, bytes_of(x.b), "cublasLtMatmul, B");
    if (cudasim_adds_bias(x.p.epilogue))
        cudasim_need_written(x.p.bias, bias_bytes(x), "cublasLtMatmul, bias");
    if (x.workspace)
        cudasim_unwrite(x.workspace, x.workspace_bytes);
    if (x.a.dtype == CNN_I8)
        multiply_i8(x);
    else
        multiply_floats(x);
}
