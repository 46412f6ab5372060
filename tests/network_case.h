/* What tests of whole networks share: random images to look at, and the checks that every kind of layer and of pruning
 * goes through: training, INT8, passes, files, programs. */
#ifndef CNN_TESTS_NETWORK_CASE_H
#define CNN_TESTS_NETWORK_CASE_H

#include "core/program.h"
#include "tests/optimize_common.h"
#include "tests/train_case.h"

enum { SHOWN = 21, CLASSES = 10, STORAGES = 3 };

extern cnn_dataset case_data; /* random images in CLASSES classes: to quantize with, and the first SHOWN to look at */

/* Fixture: case_synth of train_case.h, and case_data of 100 images of 28x28. */
void case_network_set_up(void);
void case_network_tear_down(void);

/* For fixtures of suites with other images. */
void case_make_data(int count, int side);
void case_free_data(void);

/* ---- Answers ---- */

/* Logits of the images shown; free() them, or hand them to one of the checks below. */
float *case_logits(cnn_model *model, const char *device);

/* On the CPU the model gives these logits, bit for bit, or to 1e-5 of the largest. Both free() `want`. */
void case_check_same_logits(cnn_model *model, float *want);
void case_check_close_logits(cnn_model *model, float *want);

/* The largest difference of their logits on the CPU, relative to the largest of a's. */
double case_difference(cnn_model *a, cnn_model *b);

/* ---- Training ---- */

/* Two epochs on case_synth in storage number `which` of the STORAGES bring the loss below `share` of the first one's.
 */
record case_check_trains(cnn_model *model, int which, double share);

/* A training session on case_data with momentum and decay, and `steps` steps of it, which the model then has. */
cnn_session *case_open_steps(cnn_model *model, const char *device, cnn_dtype storage);
void case_run_steps(cnn_session *session, int steps);

/* ---- INT8 ---- */

/* Calibration with 64 images. */
cnn_quantize_options case_quantize_options(void);

/* The network with random weights, always the same as make_model(net, 3) has, folded and quantized with case_data;
 * options may be NULL. */
cnn_model *case_int8(const char *net, const cnn_quantize_options *options);

/* The logits of an INT8 model are the same bits on cpu, cpu:portable and ref. */
void case_check_same_bits(cnn_model *int8);

/* Shows `observe` the values of every node, 16 images at a time. */
void case_observe(cnn_model *model, const char *device, cnn_observe_fn observe, void *context);

/* The int8 number that a value of this node stands for. */
int case_q(const cnn_model *model, int node, float value);

/* ---- Passes ---- */

/* Makes output k of a layer 0 for every image, behind its batch norm too; or this value, where no batch norm follows.
 */
void case_silence(cnn_model *model, const char *layer, int32_t k);
void case_make_constant(cnn_model *model, const char *layer, int32_t k, float value);

/* Every second output of these layers (NULL ends them) is silenced, so pruning half of the channels removes just these
 * and no answer changes, nor through a file. */
cnn_prune_result case_check_halving(cnn_model *model, const char *const *layers);

/* These passes find so many dead units, or groups to equalize, and change no answer; with no groups not a bit of one.
 */
void case_check_dead(cnn_model *model, int64_t units);
void case_check_equalize(cnn_model *model, int groups);

/* Gives every layer a mask of ones, but for filter k of this one, which is pruned. */
void case_prune_filter(cnn_model *model, const char *layer, int32_t k);

/* A pass fails at each allocation in turn, which leaves the model as it was, until it succeeds. */
void case_check_out_of_memory(cnn_model *model, const cnn_prune_options *options,
                              cnn_status (*pass)(cnn_model *, const cnn_prune_options *, cnn_prune_result *));

/* ---- Files and programs ---- */

/* What a file of this kind ("cnn", "onnx", "safetensors") makes of the model: the answers are the same bits. */
cnn_model *case_check_file(cnn_model *model, const char *kind);

/* What a .cnn file packed like this makes of the model. */
cnn_model *case_packed(const cnn_model *model, cnn_pack pack, size_t *bytes);

/* The instructions, lowered and fused for the CPU backend, of inference or of a training step that drops; free() them.
 * Their kernels are gone. */
cnn_instruction *case_instructions(const cnn_model *model, cnn_goal goal, int *count);

#endif
