/* Our tensor-core and fused kernels: when they suit.
 *
 * Their machine code is looked into by tests/cudasim/check_compile.sh, which reads the names here:
 * tensor-core kernels: k_conv_first k_conv_first_wgrad k_conv_wgrad */
#include "kernels/cuda/conv_first.h"
#include "kernels/cuda/conv_wgrad.h"
#include "kernels/cuda/kernels.h"
#include "kernels/refuse.h"

/* ---- Convolutions with few input channels ---- */

static bool first_shape_suits(const cnn_op_desc *desc, const cnn_tensor_desc *weight, char *why)
{
    if (desc->arg[CNN_ARG_SRC].c > 4)
        return cnn_refuse(why, "%d input channels are more than 4", desc->arg[CNN_ARG_SRC].c);
    if (weight->h > 7 || weight->w > 7 || desc->stride > 2)
        return cnn_refuse(why, "a filter of %d x %d with stride %d is more than 7 x 7 with stride 2", weight->h,
                          weight->w, desc->stride);
    if (weight->c_pad != weight->c)
        return cnn_refuse(why, "the weights have padding channels");
    return true;
}

/* [BIAS] [RELU], in f16 and bf16; REQUANTIZE [MAXPOOL without overlap], DEQUANTIZE or none in i8. */
static bool first_epilogue_suits(const cnn_op_desc *desc, char *why)
{
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_I8)
        return (!cnn_op_has_epilogue(desc, CNN_EPILOGUE_ADD) && !cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL) &&
                !cnn_op_has_epilogue(desc, CNN_EPILOGUE_CLIP)) ||
               cnn_refuse(why, "it neither adds, clips nor pools floats");
    return !cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL) ||
           (desc->pool_kernel == desc->pool_stride && desc->pool_kernel <= 4) ||
           cnn_refuse(why, "it pools by windows of up to 4 that do not overlap");
}

static bool conv_first_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    (void)device;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    if (src->dtype == CNN_F32)
        return cnn_refuse(why, "it computes in f16, bf16 or i8");
    if (src->dtype != CNN_I8 && (dst->dtype != src->dtype || !cnn_unpadded(desc, why)))
        return *why ? false : cnn_refuse(why, "it writes no f32");
    if (!first_shape_suits(desc, weight, why) || !first_epilogue_suits(desc, why))
        return false;
    const cnn_first_conv f = cnn_first_conv_of(desc, weight, dst);
    const cnn_first_layout at =
        cnn_first_layout_of(&f, (int32_t)cnn_dtype_bytes(src->dtype), (int32_t)cnn_dtype_bytes(dst->dtype));
    return at.bytes <= CNN_FIRST_SHARED_BYTES ||
           cnn_refuse(why, "it would need %d bytes of shared memory", (int)at.bytes);
}

static bool conv_first_wgrad_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const cnn_tensor_desc *dw = &desc->arg[CNN_ARG_DST];
    (void)device;
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_F32)
        return cnn_refuse(why, "it computes in f16 and bf16");
    if (!cnn_unpadded(desc, why) || !first_shape_suits(desc, dw, why))
        return false;
    const int32_t groups = CNN_FIRST_MOST_SLICES / CNN_FIRST_GROUP + 1;
    const int32_t taps = (dw->h * dw->w * dw->c + CNN_FIRST_TAPS) / CNN_FIRST_TAPS; /* with the bias */
    const int32_t most = CNN_CUDA_TICKETS / (groups * taps) * CNN_FIRST_CHANNELS;
    return dw->n <= most || cnn_refuse(why, "%d output channels are more than %d", (int)dw->n, (int)most);
}

/* ---- Weight gradients of other convolutions ---- */

bool cnn_cuda_conv_wgrad_mma_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const int32_t most_blocks = 65535, fewest_channels = 8;
    (void)device;
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_F32)
        return cnn_refuse(why, "it computes in f16 and bf16");
    if (desc->arg[CNN_ARG_SRC].c < fewest_channels)
        return cnn_refuse(why, "most of a fragment of %d input channels would be padding",
                          (int)desc->arg[CNN_ARG_SRC].c);
    if (!cnn_unpadded(desc, why))
        return false;
    const cnn_wgrad_conv f = cnn_wgrad_conv_of(desc);
    if (f.shared_bytes > CNN_WGRAD_SHARED_BYTES)
        return cnn_refuse(why, "it would need %d bytes of shared memory", (int)f.shared_bytes);
    return (f.blocks_k <= most_blocks && (int64_t)f.blocks_c * f.blocks_t <= most_blocks) ||
           cnn_refuse(why, "it has more than %d blocks of channels", (int)most_blocks);
}

/* Few sums of many terms: engines of cuDNN that always give the same bits do not cut the pixels into slices (their
 * plans for sm_90 have no workspace for it), so a block or a few walk over all of them while the GPU waits. */
static bool few_sums_suit(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    enum { TILE = 128, FEW = 8, MANY_PIXELS = 16384 };
    const cnn_tensor_desc *dw = &desc->arg[CNN_ARG_DST];
    const int64_t taps = (int64_t)dw->h * dw->w * dw->c;
    const int64_t tiles = ((dw->n + TILE - 1) / TILE) * ((taps + TILE - 1) / TILE);
    if (tiles > FEW || cnn_desc_pixels(&desc->arg[CNN_ARG_SRC2]) < MANY_PIXELS)
        return cnn_refuse(why, "cuDNN's kernels have blocks enough");
    return cnn_cuda_conv_wgrad_mma_suits(desc, device, why);
}

/* ---- Linear layers with few outputs ---- */

/* With more a tensor core is faster. */
static bool few_outputs(const cnn_tensor_desc *dy, char *why)
{
    return dy->c <= CNN_CUDA_FEW_OUTPUTS ||
           cnn_refuse(why, "%d outputs are more than %d", (int)dy->c, CNN_CUDA_FEW_OUTPUTS);
}

static bool linear_dgrad_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC];
    (void)device;
    if (!few_outputs(dy, why))
        return false;
    if (desc->arg[CNN_ARG_DST].dtype != dy->dtype)
        return cnn_refuse(why, "src and dst differ in element type");
    return cnn_unpadded(desc, why);
}

static bool linear_wgrad_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC], *dy = &desc->arg[CNN_ARG_SRC2];
    const int64_t most = CNN_CUDA_TICKETS * (int64_t)32; /* columns, 32 a block at the least */
    (void)device;
    if (!few_outputs(dy, why))
        return false;
    if ((int64_t)x->h * x->w * x->c > most)
        return cnn_refuse(why, "a row is longer than %d", (int)most);
    if (dy->dtype != x->dtype)
        return cnn_refuse(why, "src and src2 differ in element type");
    return cnn_unpadded(desc, why);
}

/* ---- Batch norm with pooling ---- */

/* SRC x; `pooled` is DST forward and SRC2 backward. */
static bool pooled_suits(const cnn_op_desc *desc, const cnn_tensor_desc *pooled, char *why)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    const int32_t groups = CNN_CUDA_BN_POOL_MOST_SLICES / CNN_CUDA_BN_POOL_GROUP + 1;
    const int32_t most = CNN_CUDA_TICKETS / groups * 32; /* channels, 32 a block at the least */
    if (desc->arg[CNN_ARG_INDEX].dtype == CNN_NONE)
        return cnn_refuse(why, "there is no pooling behind it");
    if (x->c > most)
        return cnn_refuse(why, "it has more than %d channels", (int)most);
    if (desc->pool_stride < desc->pool_kernel)
        return cnn_refuse(why, "its windows overlap");
    if (desc->arg[CNN_ARG_DST].dtype != x->dtype || pooled->dtype != x->dtype)
        return cnn_refuse(why, "element types differ");
    return cnn_unpadded(desc, why) &&
           (cnn_desc_pixels(x) <= INT32_MAX / 2 || cnn_refuse(why, "it has more than 2^30 pixels"));
}

static bool bn_pool_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    (void)device;
    return pooled_suits(desc, &desc->arg[CNN_ARG_DST], why);
}

static bool bn_pool_grad_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    (void)device;
    return pooled_suits(desc, &desc->arg[CNN_ARG_SRC2], why);
}

/* ---- Augmented images ---- */

static cnn_augment_shape augmented_shape(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    return (cnn_augment_shape){dst->h, dst->w, dst->c};
}

static bool augment_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    (void)device;
    if (desc->arg[CNN_ARG_SRC2].dtype == CNN_NONE)
        return cnn_refuse(why, "nothing is augmented");
    return cnn_unpadded(desc, why);
}

static size_t augment_workspace(const cnn_op_desc *desc)
{
    return cnn_cuda_augment_workspace(augmented_shape(desc), desc->arg[CNN_ARG_DST].n);
}

/* ---- The table ---- */

const cnn_cuda_impl cnn_cuda_tensor_impls[] = {
    {CNN_OP_CONV, "cnn_cuda_conv_first", conv_first_suits, NULL, cnn_cuda_conv_first, NULL},
    {CNN_OP_CONV_WGRAD, "cnn_cuda_conv_first_wgrad", conv_first_wgrad_suits, cnn_cuda_conv_first_wgrad_workspace,
     cnn_cuda_conv_first_wgrad, NULL},
    {CNN_OP_CONV_WGRAD, "cnn_cuda_conv_wgrad_mma", few_sums_suit, cnn_cuda_conv_wgrad_mma_workspace,
     cnn_cuda_conv_wgrad_mma, NULL},
    {CNN_OP_LINEAR_DGRAD, "cnn_cuda_linear_dgrad_few", linear_dgrad_suits, NULL, cnn_cuda_linear_dgrad_few, NULL},
    {CNN_OP_LINEAR_WGRAD, "cnn_cuda_linear_wgrad_few", linear_wgrad_suits, cnn_cuda_linear_wgrad_few_workspace,
     cnn_cuda_linear_wgrad_few, NULL},
    {CNN_OP_BN_TRAIN, "cnn_cuda_bn_pool", bn_pool_suits, cnn_cuda_bn_pool_workspace, cnn_cuda_bn_pool, NULL},
    {CNN_OP_BN_GRAD, "cnn_cuda_bn_pool_grad", bn_pool_grad_suits, cnn_cuda_bn_pool_grad_workspace,
     cnn_cuda_bn_pool_grad, NULL},
    {CNN_OP_INPUT, "cnn_cuda_input_augmented", augment_suits, augment_workspace, cnn_cuda_input_augmented, NULL},
    {CNN_OP_NONE, NULL, NULL, NULL, NULL, NULL},
};
