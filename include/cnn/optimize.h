/* Making a trained model smaller and faster: pruning, folding, calibration, INT8.
 *
 * Each pass changes the model in place, or fails and leaves it as it was. */
#ifndef CNN_OPTIMIZE_H
#define CNN_OPTIMIZE_H

#include "cnn/dataset.h"
#include "cnn/model.h"
#include "cnn/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What says that a channel, a weight or a block of weights matters least (formulas: optimize/score.c,
 * optimize/taylor.c). */
typedef enum cnn_criterion {
    CNN_CRITERION_L1,     /* sum of its absolute weights */
    CNN_CRITERION_L2,     /* root of the sum of their squares */
    CNN_CRITERION_BN,     /* |gamma| of the batch norm behind the layer, l2 where there is none; channels only */
    CNN_CRITERION_TAYLOR, /* first-order change of the loss on training images */
    CNN_CRITERION_RANDOM, /* by seed */
    CNN_CRITERION_LAMP /* square over those of its layer that are not smaller (optimize/lamp.c); weights and blocks */
} cnn_criterion;

typedef struct cnn_prune_options {
    double ratio; /* share of output channels or of weights to remove, 0 < ratio < 1 */
    bool global;  /* ratio of all layers together, by scores normalized per layer */
    cnn_criterion criterion;
    const cnn_model *original; /* channels: the model before the first of several steps, whose channels `ratio` is of
                                  and whose widths count for rounding; NULL: the model itself */
    double regrow;    /* weights and blocks, a further step: of what goes in this step, the share that comes back
                         from earlier ones, 0 <= regrow < 1 */
    bool per_bit;     /* weights on a grid (cnn_qat_begin): by their scores for each bit that they take in a file
                         of CNN_PACK_SMALLEST (optimize/price.c) */
    bool on_the_way;  /* a step before the last: to remove nothing is no failure */
    int32_t multiple; /* cnn_prune_to_budget: layers that get narrower have a multiple of so many channels; 0: 1 */
    const char *only; /* the one layer that is pruned, with those that share its channels; NULL: all are */
    uint64_t seed;    /* of random, and of taylor's images */
    const cnn_dataset *data; /* taylor, regrow: images to train on (those held out are not used) */
    const char *device;      /* taylor, regrow: where their gradients are computed; NULL: automatic */
} cnn_prune_options;

/* What was done. */
typedef struct cnn_prune_result {
    int64_t candidates;   /* channels of the prunable layers, a group of tied layers counted once; or weights, of those
                             layers that can lose some */
    int64_t removed;      /* of them; weights that were pruned before included */
    int fallbacks;        /* layers that criterion bn scored by l2 ... */
    char fallback[64];    /* ... and the first of them */
    int narrow;           /* layers that blocks and 2:4 left whole, being narrower than a block or group ... */
    char narrow_name[64]; /* ... and the first of them */
} cnn_prune_result;

/* Removes output channels of conv and linear layers (but those of the last one) and what depends on them: BN
 * parameters and the next layers' input channels. Each layer keeps >= 1/8 of its channels and >= 4. `result` may be
 * NULL. */
CNN_API cnn_status cnn_prune_channels(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result);

/* Leaves layers with exact numbers of output channels, those with the largest scores: "conv1=7,conv2=14,fc1=30". The
 * others stay whole. Layers whose channels can only go together (an add reads both) lose them together; each may be
 * named. Of the options it reads criterion, seed, data and device. Refused with one sentence: names that no layer with
 * channels to lose has, 0 channels, more than there are, two numbers for one layer, lists that remove nothing. */
CNN_API cnn_status cnn_prune_to_widths(cnn_model *model, const char *widths, const cnn_prune_options *options,
                                       cnn_prune_result *result);

/* What conv and linear layers may cost at most; 0: any number. */
typedef struct cnn_prune_budget {
    int64_t weights; /* biases and BN do not count */
    int64_t macs;    /* multiplications for one image */
} cnn_prune_budget;

/* Removes channels one by one until the model keeps to the budget, each time the channel whose score is least for what
 * goes with it: shares of the weights and of the MACs that are too many still, added up; with `multiple`, down to the
 * next multiple each time. Then channels come back as long as the budget allows, those with the largest scores first.
 * Layers keep 4, so a budget may be out of reach. Of the options it reads criterion, multiple, seed, data and device.
 * *left (or NULL): the weights and MACs that stay. */
CNN_API cnn_status cnn_prune_to_budget(cnn_model *model, const cnn_prune_budget *budget,
                                       const cnn_prune_options *options, cnn_prune_budget *left);

/* Sets single weights of conv and linear layers, the last one included, to 0 and gives them masks that hold them there
 * in training, folding, quantization and files. R is the share of each layer's weights; biases and BN stay. Each layer
 * keeps at least one weight. With `regrow` so many more go, and as many of those that went in steps before come back,
 * where the gradient of the loss is largest; they begin at 0. `result` may be NULL. */
CNN_API cnn_status cnn_prune_weights(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result);

/* The same with whole blocks of CNN_BLOCK_16X4 (cnn/tensor.h), which kernels can skip. R is still a share of weights,
 * to the nearest block. Layers with fewer than 16 outputs or fewer than 4 inputs (channels; of a linear layer all
 * values) keep their weights. A layer in which a quarter of the blocks or more is zero gets that structure. */
CNN_API cnn_status cnn_prune_blocks(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result);

/* The same with all but the best 2 of every 4 consecutive inputs (CNN_SPARSE_2_4, cnn/tensor.h): zeros in this pattern
 * are those that sparse tensor cores skip. Half of the weights go whatever `ratio` says; what was pruned before stays
 * pruned. `global` is refused. Layers with fewer than 4 inputs keep their weights; the others get the structure. */
CNN_API cnn_status cnn_prune_two_of_four(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result);

/* How to train on after pruning, as cnn-opt does: at a rate that falls along a cosine, for 1 to 10 epochs, the more the
 * cheaper the network `given` (before pruning) is to compute, and more where the training data are few, up to 100, on
 * images that change as they did when it was trained on data of this kind. options->augmentation points into `given`.
 */
CNN_API double cnn_finetune_epochs(const cnn_model *given, const cnn_dataset *data);
CNN_API void cnn_finetune_options_init(cnn_train_options *options, const cnn_model *given, const cnn_dataset *data);

/* Units, which are channels of convolutions and outputs of linear layers, that no weight other than 0 makes or reads
 * carry nothing. The first prunes, in weights that have masks, all that makes or reads such units, and what falls with
 * that. The second takes units out of the model where no answer changes, for good: shapes get smaller. *units (or
 * NULL): how many there are, how many went. */
CNN_API cnn_status cnn_mask_dead(cnn_model *model, int64_t *units);
CNN_API cnn_status cnn_remove_dead(cnn_model *model, int64_t *units);

/* In a model with convolutions, puts a batch norm behind each of them, and with `linear` behind each linear layer, that
 * has none, but not behind the last layer, for the time of training: the model gives what it gave, but for rounding.
 * Mean and variance are those of 512 training images, drawn by seed. *added (or NULL): how many. */
CNN_API cnn_status cnn_add_batchnorm(cnn_model *model, bool linear, const cnn_dataset *data, uint64_t seed,
                                     const char *device, int *added);

/* Folds each BN into the convolution or linear layer before it, which gains a bias, and removes the BN node. */
CNN_API cnn_status cnn_fold_batchnorm(cnn_model *model);

/* Cross-layer equalization: scales each channel between layers with weights, and its readers the other way, so that it
 * has as large a share of its tensor's INT8 range as of its readers' weights (formula: optimize/equalize.c). The model
 * gives what it gave, but for rounding. It helps INT8 where channels of a tensor differ much in range. Values' ranges
 * are those of 512 training images, drawn by seed. Batch norms must be folded; weights on a grid are refused. *groups
 * (or NULL): sets of channels that were scaled, each between a layer and those that read it. */
CNN_API cnn_status cnn_equalize(cnn_model *model, const cnn_dataset *data, uint64_t seed, const char *device,
                                int *groups);

/* Mixed precision: the widths of layers' weights, which cnn_qat_begin and cnn_quantize then take in place of their
 * `levels`. B bits are 2^(B-1)-1 levels on either side of 0: 2 bits are ternary, 8 all that INT8 has. Files do not hold
 * them.
 *
 * Set reads a list: "4" is the width of all layers, "conv1=8,fc1=3" that of these, "4,conv1=8" both. Layers that are
 * not meant have none of their own. Refused with one sentence, and nothing changed: widths beyond 2 to 8, names that no
 * layer with weights has, two widths for one layer.
 *
 * Choose finds widths by sensitivity: it rounds each layer alone to each width, measures the error of the logits on
 * training images, and shares the bits so that the sum of errors is small (optimize/precision.c). Batch norms may be
 * there. */
enum { CNN_LEAST_BITS = 2, CNN_MOST_BITS = 8, CNN_BITS_COUNT = CNN_MOST_BITS - CNN_LEAST_BITS + 1 };

CNN_API cnn_status cnn_set_bits(cnn_model *model, const char *bits);

/* Called as the work goes on; images went through the network. */
typedef void (*cnn_bits_fn)(void *context, int64_t done, int64_t all);

typedef struct cnn_bits_options {
    double average; /* bits of a weight at most, 2 to 8; pruned weights do not count */
    int images;     /* to measure errors on, drawn by seed from the training part */
    uint64_t seed;
    const char *device;   /* NULL: automatic */
    cnn_bits_fn progress; /* may be NULL */
    void *progress_context;
} cnn_bits_options;

typedef struct cnn_bits_row {
    char layer[64];
    int64_t weights;              /* not pruned */
    int bits;                     /* the choice */
    double error[CNN_BITS_COUNT]; /* of logits, with 2 to 8 bits: sum (y-x)^2 / sum x^2, x of the model as it is */
} cnn_bits_row;

/* Rows may be NULL; free() them. */
CNN_API cnn_status cnn_choose_bits(cnn_model *model, const cnn_dataset *data, const cnn_bits_options *options,
                                   cnn_bits_row **rows, int *row_count);

/* Quantization-aware training of weights with few levels: cnn_qat_begin, training, cnn_qat_end, cnn_fold_batchnorm,
 * cnn_quantize.
 *
 * Begin gives each layer with weights a grid, whole numbers within -levels..levels (1 to 127; 1: ternary; the layer's
 * own width comes first) times one step, at first the one of least squared error. From then on sessions compute with
 * the nearest points on the grid, while the weights behind them train on, and the step with them (ops GRID and
 * GRID_GRAD in cnn/ops.h). Batch norms stay alive, and pruned weights 0. Files hold the weights behind, and nothing of
 * the grid.
 *
 * End puts the weights onto their grid, which folding and cnn_quantize then keep: the whole numbers become the int8
 * weights. Training a model in this state is refused; begin may be called anew at any time. End of a model that has not
 * begun does nothing. */
CNN_API cnn_status cnn_qat_begin(cnn_model *model, int levels);
CNN_API cnn_status cnn_qat_end(cnn_model *model);

/* Rounds the steps of grids that cnn_qat_end left and folding made different from channel to channel to the nearest
 * powers of 2^(1/16), and the weights with them: files then hold each in a few bits. Others stay. */
CNN_API cnn_status cnn_qat_round(cnn_model *model);

/* How calibration finds the range of a tensor's values, from a histogram of their magnitudes. */
typedef enum cnn_observer {
    CNN_OBSERVER_MAX,        /* the largest value */
    CNN_OBSERVER_PERCENTILE, /* a stated share of the values other than 0 */
    CNN_OBSERVER_ENTROPY,    /* least Kullback-Leibler divergence between the distribution and what 8 bits tell of it */
    CNN_OBSERVER_MSE,        /* least squared error of rounding and clipping */
    CNN_OBSERVER_AUTO        /* tensor by tensor the one of these that leaves the least squared error in the logits; one
                                everywhere where that is right on over 0.05 % more of the validation images */
} cnn_observer;

/* How weights become whole numbers. */
typedef enum cnn_rounding {
    CNN_ROUNDING_NEAREST, /* the nearest */
    CNN_ROUNDING_ADAPTIVE /* up or down, so that what the layer gives on training images changes least (AdaRound;
                             optimize/adaround.h). For few bits without training: it takes time for each weight */
} cnn_rounding;

/* Called as the work goes on; `done` and `all` count images that went through the network. Return false to stop:
 * cnn_quantize then returns CNN_ERR_CANCELLED. */
typedef bool (*cnn_quantize_fn)(void *context, int64_t done, int64_t all);

typedef struct cnn_quantize_options {
    cnn_observer observer;
    double percentile; /* of |x|, for the percentile observer */
    int images;        /* calibration images, drawn by seed from the training part */
    int search_images; /* for CNN_OBSERVER_AUTO: other images of the training part, which compare the observers */
    int levels;        /* weights become whole numbers within -levels..levels, 1 to 127, times their channel's step:
                          below 127 the one of least squared error. A layer that cnn_qat_end left on a grid keeps it,
                          one with a width of its own takes that */
    int codebook; /* 1 to 4: instead of any whole number within -levels..levels the weights of a layer take one of at
                     most 2^codebook, which suit them best (optimize/codebook.c); 0: none. Layers on a grid keep it */
    cnn_rounding rounding; /* of layers that are on no grid */
    bool compact; /* what files then hold in a byte: scales of values are rounded up to powers of 2^(1/16), biases
                     of a layer to at most 31 levels on either side of 0 */
    bool bias_correction; /* shift each layer's bias so that its sums have the float model's means per channel */
    uint64_t seed;
    const char *device;
    cnn_quantize_fn progress; /* may be NULL */
    void *progress_context;
} cnn_quantize_options;

/* Observer auto, percentile 99.99, 512 and 256 images, 127 levels, bias correction, seed 1, automatic device. */
CNN_API void cnn_quantize_options_init(cnn_quantize_options *options);

/* One row of the per-layer account: the int8 value that a convolution or linear layer is requantized to, which is that
 * of the ReLU behind it where there is one; of the last layer the logits. "Exact" is the float model's value x, y the
 * INT8 program's, over all calibration images; the errors of earlier layers are in it. */
typedef struct cnn_quantize_row {
    char layer[64];
    int bits; /* of its weights: the least that hold their levels, 2 to 8; of a codebook's numbers, 1 to 4 */
    const char *observer; /* that set the range: "max", "percentile", "entropy", "mse"; NULL for logits */
    float scale;          /* a step of the int8 value; 0 for logits */
    double clipped;       /* share of x beyond the range, a fraction of 1 */
    double sqnr_db;       /* 10 log10(sum x^2 / sum (x-y)^2); INFINITY: no error; NAN: x is always 0 */
    double cosine;        /* sum xy / sqrt(sum x^2 * sum y^2); NAN: x or y is always 0 */
    bool dead;            /* x is 0 on every calibration image: the layer has no influence */
} cnn_quantize_row;

/* Calibrates on `data` and makes the model INT8. The model must have no BN left. Refused with one sentence: data of
 * another shape, images that are all blank, weights that are not finite, values and sums that INT8 cannot hold. Rows
 * may be NULL; free() them. */
CNN_API cnn_status cnn_quantize(cnn_model *model, const cnn_dataset *data, const cnn_quantize_options *options,
                                cnn_quantize_row **rows, int *row_count);

#ifdef __cplusplus
}
#endif
#endif
