/* clang-format off */
/* The op descriptor: what is to be computed, never where.
 *
 * An op is a kind, some attributes, an epilogue chain and up to CNN_ARG_COUNT tensors, each in a role. The same
 * descriptor feeds every backend, kcheck and the memory planner. Shapes below: N images, C input channels, H x W
 * input, P x Q output, K output channels, R x S filter.
 *
 * dtypes. "float" is f32, f16 or bf16 and the same for all float activations and weights of one op, except that
 * an op with f16/bf16 inputs may write an f32 DST (the logits). Accumulation, statistics, losses, weight
 * gradients, biases, BN parameters and the optimizer are f32; a value is rounded to f16/bf16 (nearest even,
 * overflow to inf, subnormals kept) only when it is stored.
 *
 * | op            | reads                                                      | writes                       |
 * |---------------|------------------------------------------------------------|------------------------------|
 * | CONV          | SRC [N,H,W,C], WEIGHT [K,R,S,C], epilogue's BIAS, SRC2 ... | DST [N,P,Q,K], with epilogue MAXPOOL opt. INDEX u8 of its shape |
 * | CONV_DGRAD    | SRC dy [N,P,Q,K], WEIGHT [K,R,S,C], opt. INDEX u8 of SRC's shape | DST dx [N,H,W,C]       |
 * | CONV_WGRAD    | SRC x [N,H,W,C], SRC2 dy [N,P,Q,K], opt. INDEX u8 of SRC2's shape | DST dw f32, opt. DST2 db f32 |
 * | GROUP_CONV*   | as CONV*, with WEIGHT (and DST of GROUP_CONV_WGRAD) [K,R,S,C/G]                           |
 * | LINEAR*       | as CONV* with R = H, S = W, P = Q = 1, pad 0: a GEMM over H*W*C; LINEAR_DGRAD's epilogue reads SRC2 [N,H,W,C] |
 * | BN_TRAIN      | SRC, GAMMA, BETA                                           | DST, MEAN, VAR, INVSTD, with epilogue MAXPOOL INDEX u8 [N,P,Q,C] |
 * | BN_INFER      | SRC, GAMMA, BETA, MEAN, VAR                                | DST                          |
 * | BN_GRAD       | SRC x, SRC2 dy, GAMMA, MEAN, INVSTD, opt. INDEX u8 [N,P,Q,C] | DST dx, DST2 dgamma, DST3 dbeta |
 * | RELU          | SRC (float or i8)                                          | DST                          |
 * | RELU_GRAD     | SRC y (the ReLU's output), SRC2 dy                         | DST dx = y > 0 ? dy : 0      |
 * | CLIP          | SRC (float or i8)                                          | DST                          |
 * | CLIP_GRAD     | SRC y (the CLIP's output), SRC2 dy                         | DST dx                       |
 * | LEAKY_RELU    | SRC (float; or i8 with scale[0], out_scale)                | DST                          |
 * | LEAKY_RELU_GRAD | SRC y (the LEAKY_RELU's output), SRC2 dy                 | DST dx = y > 0 ? dy : slope*dy |
 * | MAXPOOL       | SRC                                                        | DST, opt. INDEX u8           |
 * | MAXPOOL_GRAD  | INDEX u8 [N,P,Q,C], SRC2 dy                                | DST dx                       |
 * | AVGPOOL       | SRC (float; or i8 with scale[0])                           | DST                          |
 * | AVGPOOL_GRAD  | SRC dy                                                     | DST dx                       |
 * | ADD           | SRC, SRC2 (float; or i8 with both scales and out_scale)    | DST                          |
 * | CONCAT        | SRC [N,H,W,C], SRC2 [N,H,W,K] (float; or i8 as ADD's)      | DST [N,H,W,C+K]              |
 * | CONCAT_GRAD   | SRC dy [N,H,W,C+K]                                         | DST [N,H,W,C], DST2 [N,H,W,K] |
 * | DROPOUT       | SRC, STATE, opt. INDEX i32 [L]                             | DST                          |
 * | INPUT         | SRC u8 [M,H,W,C], opt. INDEX i32 [L], opt. STATE, opt. SRC2 u8, TABLE [C,256] | DST [N,H,W,C] |
 * | LOSS          | SRC logits f32 [N,1,1,K], LABELS u8 [M], opt. INDEX i32 [L], opt. STATE, opt. SRC2 f32 [M,1,1,K] | opt. DST dlogits, DST2 f32 [2] |
 * | GRID          | SRC f32 [K,R,S,C], SRC2 f32 [1]                            | DST [K,R,S,C]                |
 * | GRID_GRAD     | SRC f32 [K,R,S,C], SRC2 f32 [1], DST                       | DST f32 [K,R,S,C], DST2 f32 [1] |
 * | REQUANTIZE    | SRC i32, BIAS i32 [K], MULT f32 [K]                        | DST i8                       |
 * | DEQUANTIZE    | SRC i32, BIAS i32 [K], MULT f32 [K]                        | DST f32                      |
 * | MASK          | SRC u8 [L]                                                 | DST f32 [L]                  |
 * | GRAD_STATS    | SRC grads f32 [L], INDEX i32 [T+1] offsets, opt. SRC2 batch statistics f32 [M] | DST i32 [T], STATE, with SRC2 DST2 running statistics |
 * | SGD           | SRC grads f32 [L], STATE, TABLE f32 [steps] learning rates | DST params, DST2 momentum, opt. DST3 f16/bf16 copy |
 * | ADAM          | SRC, STATE, TABLE as SGD                                   | DST params, DST2 mean of gradients, VAR mean of their squares, opt. DST3 as SGD |
 * | BN_UPDATE     | SRC batch statistics f32 [L], STATE                        | DST running statistics       |
 * | EMA           | SRC values f32 [L], STATE                                  | DST averages                 |
 * | LOSS_SCALE    | SRC i32 [T] the DST of GRAD_STATS, opt. SRC2 f32 [2] the DST2 of LOSS, STATE | STATE, opt. DST u8 reports |
 *
 * CONV     y[n,p,q,k] = sum_rsc x[n, p*stride+r-pad, q*stride+s-pad, c] * w[k,r,s,c], zero outside.
 *          i8 x i8 gives an i32 DST; an epilogue REQUANTIZE or DEQUANTIZE makes it i8 or f32.
 *          A float CONV that ends in MAXPOOL may have an INDEX, as BN_TRAIN below and with the same roundings. It then
 *          does not clip.
 *          WEIGHT's structure says what is known of its zeros, which a kernel may skip. It is dense unless the weights are
 *          constant.
 * WGRAD    db[k] = sum_npq dy.
 *          CONV_DGRAD and CONV_WGRAD with INDEX take the gradient of what was pooled behind the convolution: dy of P x Q
 *          pixels is then what MAXPOOL_GRAD with pool_kernel and pool_stride, which is no less, would make of it. Products
 *          with what that leaves 0 may be left out.
 * GROUP_CONV  a convolution in G groups, G = C / WEIGHT's inputs, which divides K, too: output k reads only the C/G input
 *          channels of its group k / (K/G). G = C is a depthwise convolution. Epilogues as CONV's.
 * LINEAR_DGRAD may end in RELU_GRAD: SRC2 is the layer's input, and that a ReLU's output.
 * BN       mean and biased variance over N,H,W per channel; INVSTD = 1/sqrt(var + eps); y = (x-mean)*invstd*gamma+beta.
 *          BN_TRAIN's VAR is the unbiased variance, var*m/(m-1) (m = N*H*W; factor 1 when m = 1), for the running
 *          statistics. BN_INFER reads running MEAN and VAR.
 *          BN_GRAD: xhat = (x-mean)*invstd; dbeta = sum dy; dgamma = sum dy*xhat;
 *          dx = gamma*invstd*(dy - dbeta/m - xhat*dgamma/m).
 *          BN_INFER may end in [RELU] [MAXPOOL]: DST is then the pooled tensor, without an INDEX.
 *          BN_TRAIN may end in [RELU] MAXPOOL: DST [N,P,Q,C] is the pooled tensor and INDEX is as MAXPOOL's; with RELU it is
 *          255 where the maximum is not above 0 (or is NaN): no gradient passes. BN_GRAD with INDEX is what belongs to it:
 *          SRC2 [N,P,Q,C] is the gradient of the pooled tensor, and dy that of MAXPOOL_GRAD with pool_kernel and pool_stride.
 *          Such ops round only what they store: y before the pooling and dy behind it stay f32 (so that among values that
 *          f16 cannot tell apart INDEX may name another one than MAXPOOL of a rounded y would).
 * CLIP     y = min(max(x, 0), hi), hi > 0; NaN stays. CLIP_GRAD: dx = 0 < y < hi ? dy : 0, hi rounded to SRC's dtype.
 *          i8: hi is a whole number up to 127.
 * LEAKY_RELU  y = x > 0 ? x : slope*x, 0 <= slope <= 1; NaN stays.
 *          i8: v = float(x)*scale[0], y of v in f32, q = rint(clamp(y/out_scale, lo, hi)), ties to even.
 * MAXPOOL  windows reach `pad` < kernel pixels beyond the image (floor); there is nothing there. INDEX = r*kernel+s of the
 *          first maximum in row order; NaN wins. MAXPOOL_GRAD adds where windows overlap, in window order, rounding once.
 * AVGPOOL  windows lie wholly inside the image (no padding, floor), up to 2^24 pixels; with kernel 0 one holds the whole
 *          image, be it square or not, and P = Q = 1. y = sum/count, count the pixels of a window. DST may be f32 where SRC is not.
 *          AVGPOOL_GRAD: dx = (sum of dy over the windows that hold the pixel, in their order)/count.
 *          i8: q = rint(clamp(float(sum)*scale[0], lo, hi)), ties to even, the sum in i32.
 * INPUT    dst[n,h,w,c] = TABLE[c][src[image(n), h, w, c]]; TABLE is f32 for float DST, i8 for i8 DST.
 *          image(n) = INDEX ? INDEX[(STATE ? STATE.cursor : 0) + n] : n; INDEX reaches that far.
 *          SRC2: cnn_augment_params [N] (kernels/augment/params.h): image n is augmented as number n says, its bytes
 *          then go through the table; DST is float and without padding channels.
 * LOSS     mean over N of logsumexp(z) - sum_k t[k] z[k]; DST2 = {mean loss, count of argmax(z) == label (first maximum)}.
 *          t = (1 - smoothing) onehot(label) + smoothing/K, label of image n is LABELS[image(n)], as for INPUT.
 *          dlogits = (softmax(z) - t)/N * (STATE ? loss_scale : 1).
 *          SRC2: what a teacher answers to each image, a[k] of image(n): distillation (Hinton et al., 2015). With
 *          T = temperature, p = softmax(a/T) and q = softmax(z/T) the loss is the mean of
 *          (1 - mix) * (as above) + mix * T^2 * sum_k p[k] (log p[k] - log q[k]), and
 *          dlogits = ((1 - mix) * (softmax(z) - t) + mix * T * (q - p))/N * (STATE ? loss_scale : 1).
 * GRID     weights on a grid of 2*levels + 1 points, 1 <= levels <= 127: with s = step*exp(SRC2) in double and rounded
 *          once to f32, v = w/s, q = rint(clamp(v, -levels, levels)), ties to even, DST = q*s; f32, each operation rounded.
 * GRID_GRAD   DST comes with the gradient of GRID's DST and leaves as that of the weights: as it was where
 *          |v| <= levels, else 0. DST2 = sum g*(|v| <= levels ? q*s - w : q*s), g what DST came with: the gradient of
 *          SRC2 when rounding is taken for the identity (Esser et al., "Learned step size quantization", 2020).
 * REQUANTIZE  q = rint(clamp(float(acc + bias) * m[k], lo, hi)), ties to even; lo, hi from attribute `lo`, `hi`.
 * DEQUANTIZE  y = float(acc + bias) * m[k].
 * ADD i8      q = rint(clamp((float(a)*scale[0] + float(b)*scale[1])/out_scale, lo, hi)), ties to even; each product, the
 *          sum and the quotient rounded once to f32, as DequantizeLinear, Add and QuantizeLinear do.
 * CONCAT   the channels of SRC, then those of SRC2; CONCAT_GRAD takes them apart.
 *          i8: q = rint(clamp(float(x)*scale[i]/out_scale, lo, hi)), ties to even, i = 0 for SRC and 1 for SRC2.
 * DROPOUT  value i of image n, counted through [H,W,C], is SRC/(1 - rate) where cnn_dropout_keeps(cnn_dropout_key(seed,
 *          STATE.epoch, image(n)), i, rate), else 0; image(n) as INPUT's. 1/(1 - rate) is rounded to f32, and so is the
 *          product. Its gradient is the same op on dy.
 * MASK     DST = SRC ? DST : 0, whatever DST held: gradients of pruned weights.
 * GRAD_STATS  DST[t] = 1 when segment t holds an inf or NaN; STATE.found_nonfinite = any; STATE.grad_sumsq = sum g^2.
 *          With SRC2 BN_UPDATE then does for SRC2 and DST2 what it says below.
 * SGD      skipped whole when STATE.found_nonfinite. Else lr = TABLE[min(STATE.step, steps-1)],
 *          g' = g/divisor + weight_decay*w; v = momentum*v + g'; w = w - lr*(nesterov ? g' + momentum*v : v);
 *          copy = round(w).
 *          divisor unscales and clips: loss_scale, or with clip_norm > 0, in double and rounded once,
 *          loss_scale * max(1, (norm + 1e-6)/clip_norm), norm = sqrt(grad_sumsq)/loss_scale.
 * ADAM     skipped, lr and divisor as SGD. t = STATE.step + 1; l2 = decoupled_decay ? 0 : weight_decay;
 *          g' = g/divisor + l2*w; m = beta1*m + (1 - beta1)*g'; v = beta2*v + (1 - beta2)*g'*g';
 *          w = shrink*w - rate*m/(sqrt(v)/root + eps); copy = round(w). In double and rounded once:
 *          rate = lr/(1 - beta1^t), root = sqrt(1 - beta2^t), shrink = decoupled_decay ? 1 - lr*weight_decay : 1.
 * BN_UPDATE   skipped when STATE.found_nonfinite. Else running = running + momentum*(batch - running).
 * EMA      skipped when STATE.found_nonfinite. Else average = average + share*(value - average), where in double and rounded
 *          once share = 1 - min(ema_decay, (1 + step)/(10 + step)): averages of the first steps forget where they began.
 * LOSS_SCALE  the loss scaler's state machine, see cnn_train_state. It ends a training step: DST, a ring of
 *          cnn_step_report, gets number (step + skipped, as they were before) mod their count; then cursor += advance.
 *
 * CUDA sources include this header: it is C11 and C++17. */
/* clang-format on */
#ifndef CNN_OPS_H
#define CNN_OPS_H

#include "cnn/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cnn_op {
    CNN_OP_NONE = 0,
    CNN_OP_CONV,
    CNN_OP_CONV_DGRAD,
    CNN_OP_CONV_WGRAD,
    CNN_OP_LINEAR,
    CNN_OP_LINEAR_DGRAD,
    CNN_OP_LINEAR_WGRAD,
    CNN_OP_BN_TRAIN,
    CNN_OP_BN_INFER,
    CNN_OP_BN_GRAD,
    CNN_OP_RELU,
    CNN_OP_RELU_GRAD,
    CNN_OP_MAXPOOL,
    CNN_OP_MAXPOOL_GRAD,
    CNN_OP_ADD,
    CNN_OP_INPUT,
    CNN_OP_LOSS,
    CNN_OP_REQUANTIZE,
    CNN_OP_DEQUANTIZE,
    CNN_OP_MASK,
    CNN_OP_GRAD_STATS,
    CNN_OP_SGD,
    CNN_OP_ADAM,
    CNN_OP_BN_UPDATE,
    CNN_OP_EMA,
    CNN_OP_LOSS_SCALE,
    CNN_OP_GRID,
    CNN_OP_GRID_GRAD,
    CNN_OP_AVGPOOL,
    CNN_OP_AVGPOOL_GRAD,
    CNN_OP_GROUP_CONV,
    CNN_OP_GROUP_CONV_DGRAD,
    CNN_OP_GROUP_CONV_WGRAD,
    CNN_OP_CLIP,
    CNN_OP_CLIP_GRAD,
    CNN_OP_LEAKY_RELU,
    CNN_OP_LEAKY_RELU_GRAD,
    CNN_OP_CONCAT,
    CNN_OP_CONCAT_GRAD,
    CNN_OP_DROPOUT,
    CNN_OP_COUNT
} cnn_op;

typedef enum cnn_arg {
    CNN_ARG_SRC = 0,
    CNN_ARG_SRC2,
    CNN_ARG_WEIGHT,
    CNN_ARG_BIAS,
    CNN_ARG_MULT,
    CNN_ARG_GAMMA,
    CNN_ARG_BETA,
    CNN_ARG_MEAN,
    CNN_ARG_VAR,
    CNN_ARG_INVSTD,
    CNN_ARG_INDEX,
    CNN_ARG_TABLE,
    CNN_ARG_LABELS,
    CNN_ARG_STATE,
    CNN_ARG_DST,
    CNN_ARG_DST2,
    CNN_ARG_DST3,
    CNN_ARG_COUNT
} cnn_arg;

/* How an op uses the tensor in a role: bits. */
typedef enum cnn_use { CNN_USE_NONE = 0, CNN_USE_READ = 1, CNN_USE_WRITE = 2, CNN_USE_UPDATE = 3 } cnn_use;

/* Epilogue steps run in order on the f32 (or, before REQUANTIZE/DEQUANTIZE, i32) accumulator. Valid chains:
 * float: [BIAS] [ADD] [RELU or CLIP] [MAXPOOL];  i8: REQUANTIZE [MAXPOOL] or DEQUANTIZE;  BN_TRAIN: none or [RELU]
 * MAXPOOL; LINEAR_DGRAD: none or RELU_GRAD. Backends refuse what they lack. */
typedef enum cnn_epilogue_kind {
    CNN_EPILOGUE_NONE = 0,
    CNN_EPILOGUE_BIAS,       /* + BIAS[k], f32 */
    CNN_EPILOGUE_ADD,        /* + SRC2[n,p,q,k] */
    CNN_EPILOGUE_RELU,       /* max(., 0); NaN stays NaN */
    CNN_EPILOGUE_REQUANTIZE, /* as op REQUANTIZE, with BIAS i32, MULT, lo and hi */
    CNN_EPILOGUE_DEQUANTIZE, /* as op DEQUANTIZE, with BIAS i32 and MULT */
    CNN_EPILOGUE_MAXPOOL,    /* pool_kernel, pool_stride; DST is the pooled tensor */
    CNN_EPILOGUE_RELU_GRAD,  /* SRC2[n,h,w,c] > 0 ? . : 0 */
    CNN_EPILOGUE_CLIP        /* as op CLIP, with hi */
} cnn_epilogue_kind;

enum { CNN_MAX_EPILOGUE = 4 };

typedef struct cnn_op_desc {
    cnn_op op;
    cnn_tensor_desc arg[CNN_ARG_COUNT]; /* by role; dtype CNN_NONE where absent */
    int32_t stride, pad;                /* CONV*, MAXPOOL*: same in both directions */
    int32_t kernel;                     /* MAXPOOL*, AVGPOOL*: square window; its stride is `stride` */
    int32_t pool_kernel, pool_stride;   /* CNN_EPILOGUE_MAXPOOL; BN_GRAD, CONV_DGRAD and CONV_WGRAD with INDEX */
    float eps, momentum;                /* BN */
    float lo, hi;                       /* REQUANTIZE, i8 ADD, CONCAT, AVGPOOL and LEAKY_RELU; CLIP: hi */
    float scale[2];                     /* i8 ADD and CONCAT; i8 LEAKY_RELU and AVGPOOL: the first */
    float out_scale;                    /* i8 ADD, CONCAT and LEAKY_RELU */
    float slope;                        /* LEAKY_RELU, LEAKY_RELU_GRAD */
    float rate;                         /* DROPOUT, in [0, 1) */
    uint64_t seed;                      /* DROPOUT: of the run and the layer */
    float smoothing;                    /* LOSS, in [0, 1) */
    float mix, temperature;             /* LOSS with SRC2: in (0, 1]; positive */
    int32_t levels;                     /* GRID, GRID_GRAD */
    float step;                         /* GRID, GRID_GRAD: s where SRC2 is 0; normal and positive */
    int32_t advance;                    /* LOSS_SCALE: images by which STATE.cursor moves */
    bool mirror;                        /* INPUT with SRC2: what lies outside of an image is its mirror image, not 0 */
    bool decoupled_decay;               /* ADAM: weight decay beside the gradient (AdamW), not in it */
    bool constant_weights;              /* WEIGHT never changes: pack once (cnn_kernel.pack) */
    int32_t epilogue_count;
    cnn_epilogue_kind epilogue[CNN_MAX_EPILOGUE];
} cnn_op_desc;

/* What a training step keeps on the device: the loss scaler's settings and state, and what the optimizer needs.
 * LOSS_SCALE does, with `nonfinite` = found_nonfinite of this step:
 *   nonfinite: ++skipped; ++overflows_in_row; clean_steps = 0; last_overflow = the last segment flagged, -1 when none
 *              is (backward runs from the last layer to the first, so the overflow began there); first_overflow = the
 *              same, if it is still -1; if dynamic: loss_scale = max(loss_scale*backoff, floor).
 *   finite:    ++step; overflows_in_row = 0; ++clean_steps; if dynamic and clean_steps == growth_interval:
 *              loss_scale = min(loss_scale*growth, ceiling), clean_steps = 0.
 *   scale_min and scale_max then take in the new loss_scale; found_nonfinite = 0. */
typedef struct cnn_train_state {
    /* settings */
    float momentum, weight_decay;
    float clip_norm;  /* largest norm of the unscaled gradients; 0: any */
    int32_t nesterov; /* 0 or 1 */
    float growth, backoff, floor, ceiling;
    int32_t growth_interval;
    int32_t dynamic;          /* 0: the loss scale never moves */
    double ema_decay;         /* in [0, 1) */
    double beta1, beta2, eps; /* ADAM */
    int32_t cursor;           /* place in INDEX of the next batch's first image; LOSS_SCALE moves it on */
    /* state */
    int32_t step; /* updates done: skipped steps do not count */
    float loss_scale;
    int32_t found_nonfinite;
    int32_t clean_steps, overflows_in_row, skipped;
    int32_t first_overflow, last_overflow; /* segment numbers; -1: none yet */
    float scale_min, scale_max;
    int32_t epoch;     /* from 1; what is drawn anew in each epoch follows from it */
    double grad_sumsq; /* of the scaled gradients */
} cnn_train_state;

/* What a step leaves for the host, which may read it some steps later. */
typedef struct cnn_step_report {
    float loss;            /* mean of the batch, before the update */
    float correct;         /* right answers, a whole number */
    cnn_train_state state; /* after the step; its cursor is the one that the step began with */
} cnn_step_report;

/* One row per op: its name and how it uses each role. */
typedef struct cnn_op_info {
    cnn_op op;
    const char *name;           /* "conv_wgrad" */
    uint8_t use[CNN_ARG_COUNT]; /* cnn_use; a tensor may still be absent where the table above says so */
} cnn_op_info;

CNN_API const cnn_op_info *cnn_op_info_get(cnn_op op);

/* "src", "weight", ... */
CNN_API const char *cnn_arg_name(cnn_arg arg);

/* Which of the three that convolutions, grouped ones and linear layers have in common. */
static inline bool cnn_op_is_dgrad(cnn_op op)
{
    return op == CNN_OP_CONV_DGRAD || op == CNN_OP_GROUP_CONV_DGRAD || op == CNN_OP_LINEAR_DGRAD;
}

static inline bool cnn_op_is_wgrad(cnn_op op)
{
    return op == CNN_OP_CONV_WGRAD || op == CNN_OP_GROUP_CONV_WGRAD || op == CNN_OP_LINEAR_WGRAD;
}

static inline bool cnn_op_is_group_conv(cnn_op op)
{
    return op >= CNN_OP_GROUP_CONV && op <= CNN_OP_GROUP_CONV_WGRAD;
}

/* A convolution's gradient from that of what was pooled behind it. */
static inline bool cnn_op_is_pooled_grad(const cnn_op_desc *desc)
{
    return (desc->op == CNN_OP_CONV_DGRAD || desc->op == CNN_OP_CONV_WGRAD) &&
           desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE;
}

/* Output length of a window sliding over `size`: floor((size + 2 pad - kernel)/stride) + 1; 0: it does not fit. */
static inline int32_t cnn_window_count(int32_t size, int32_t kernel, int32_t stride, int32_t pad)
{
    return size + 2 * pad < kernel ? 0 : (size + 2 * pad - kernel) / stride + 1;
}

/* base^exponent by repeated squaring, exponent >= 0: the same bits everywhere, whatever the C library. */
CNN_HOST_DEVICE double cnn_power(double base, int32_t exponent)
{
    double power = 1.0;
    for (; exponent > 0; exponent /= 2, base *= base)
        if (exponent % 2)
            power *= base;
    return power;
}

/* What a layer drops of an image in an epoch follows from this number, the same on every device. */
CNN_HOST_DEVICE uint64_t cnn_dropout_mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

CNN_HOST_DEVICE uint64_t cnn_dropout_key(uint64_t seed, int32_t epoch, int32_t image)
{
    return cnn_dropout_mix(cnn_dropout_mix(seed ^ (uint32_t)epoch) ^ (uint32_t)image);
}

/* Of 2^24 numbers that a value can draw those below rate * 2^24 drop it. */
CNN_HOST_DEVICE bool cnn_dropout_keeps(uint64_t key, int64_t i, float rate)
{
    return (float)(cnn_dropout_mix(key + (uint64_t)i) >> 40) >= rate * 16777216.0f;
}

static inline bool cnn_op_has_epilogue(const cnn_op_desc *desc, cnn_epilogue_kind kind)
{
    for (int32_t i = 0; i < desc->epilogue_count; i++)
        if (desc->epilogue[i] == kind)
            return true;
    return false;
}

/* Writes the descriptor as one line and returns text: "conv src=f32[64,14,14,128] weight=f32[256,5,5,128]
 * dst=f32[64,14,14,256] stride=1 pad=2 +bias +relu". */
CNN_API char *cnn_op_desc_print(const cnn_op_desc *desc, char *text, size_t text_bytes);

#ifdef __cplusplus
}
#endif
#endif
