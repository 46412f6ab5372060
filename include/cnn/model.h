/* Models: a graph of layers, its parameters, and what is known about its data.
 *
 * A model is made from a .cfg description (built-in name or file) with fresh weights, or read from a .cnn file. */
#ifndef CNN_MODEL_H
#define CNN_MODEL_H

#include "cnn/dataset.h"
#include "cnn/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cnn_model cnn_model;

/* A built-in name ("convnet", "lenet5", "lenet5-caffe", "lenet300", "resnet20", "resnet56", "vgg16", "mobilenet-small")
 * or the path of a .cfg file. Parameters are allocated and zero; see cnn_model_init. */
CNN_API cnn_status cnn_model_create(const char *name_or_path, cnn_model **model);

/* The same from text; `source` names it in errors. */
CNN_API cnn_status cnn_model_parse(const char *text, const char *source, cnn_model **model);

/* Makes a network for other images and classes: its input becomes as `form` says, the outputs of its last layer change,
 * and all parameters are made anew, zero; what data it was trained on is forgotten. Where a layer does not work at that
 * size, and where the last one has no `out`, the error names it and the model stays as it was. */
CNN_API cnn_status cnn_model_adapt(cnn_model *model, const cnn_image_form *form, int32_t classes);

/* Built-in names, NULL after the last. */
CNN_API const char *const *cnn_model_builtin_names(void);

/* Makes `model` start from a trained one: each layer whose namesake in `from` has parameters of the same shapes takes
 * those, with their masks, and the normalization of images and the split of the data come along. Other layers, among
 * them a last one with another number of outputs, keep what they have. taken [cnn_model_layer_count] (or NULL) says
 * which took. Refused before anything is changed: a `from` in INT8, a namesake of another shape before the last layer,
 * nothing to take. */
CNN_API cnn_status cnn_model_transfer(cnn_model *model, const cnn_model *from, bool *taken);

/* Initial weights: weights and biases uniform in +-1/sqrt(fan_in) (PyTorch's default bounds), gamma 1, beta 0, running
 * mean 0, variance 1. Each value is a hash of (seed, parameter, index). */
CNN_API void cnn_model_init(cnn_model *model, uint64_t seed);

/* Makes a new network read the images of a data set as is usual for it: CIFAR-10's less the mean of each channel,
 * divided by its deviation, others (x/255 - 0.5)/0.5, which a new network begins with. Trained weights hold for what
 * they were trained with. */
CNN_API void cnn_model_normalize_for(cnn_model *model, cnn_dataset_id id);

/* Reads a .cnn file. Everything is checked before it is used. */
CNN_API cnn_status cnn_model_load(const char *path, cnn_model **model);

/* The same for a model that is run and stays as it is: large tensors that the file holds raw are read in place, so the
 * file must not be written to while the model is open. Such a model cannot be trained, nor given new weights; passes
 * that make a model of it (cnn/optimize.h) may be run. */
CNN_API cnn_status cnn_model_open(const char *path, cnn_model **model);

/* How a file is packed. */
typedef enum cnn_pack {
    CNN_PACK_AUTO,    /* a tensor is coded, in a form that is fast to read, when that takes less than 75 % of raw */
    CNN_PACK_RAW,     /* tensors as they are, so that they can be mapped and read in place; 2:4 ones compressed */
    CNN_PACK_SMALLEST /* the smallest form of each tensor or of all, and no names or free text */
} cnn_pack;

/* Writes a .cnn file: to a temporary file beside it, synced, renamed. On failure a file that existed stays whole.
 * cnn_model_save packs as CNN_PACK_AUTO says. */
CNN_API cnn_status cnn_model_save(const cnn_model *model, const char *path, size_t *bytes /* or NULL */);
CNN_API cnn_status cnn_model_save_packed(const cnn_model *model, const char *path, cnn_pack pack,
                                         size_t *bytes /* or NULL */);

CNN_API cnn_status cnn_model_clone(const cnn_model *model, cnn_model **copy);
CNN_API void cnn_model_free(cnn_model *model);

/* Input [1,H,W,C] and output [1,1,1,classes] of one image. */
CNN_API cnn_tensor_desc cnn_model_input(const cnn_model *model);
CNN_API cnn_tensor_desc cnn_model_output(const cnn_model *model);

/* Stored values: weights and biases, BN included. */
CNN_API int64_t cnn_model_weight_count(const cnn_model *model);

/* Multiply-accumulates of convolutions and linear layers for one image. */
CNN_API int64_t cnn_model_macs(const cnn_model *model);

/* One layer of a model: a node of its graph. */
typedef struct cnn_layer_info {
    const char *name, *type; /* "conv1", "conv"; they live as long as the model is not changed */
    cnn_tensor_desc output;  /* of one image */
    int64_t weights;         /* stored values: weights and biases, BN included */
    int64_t zeros;           /* of its weights */
    int64_t macs;            /* multiply-accumulates for one image */
    cnn_dtype dtype;         /* of its weights, CNN_F32 or CNN_I8; CNN_NONE: it has none */
} cnn_layer_info;

/* Layers in the order in which they compute; number 0 is the input, the last one gives the scores. */
CNN_API int cnn_model_layer_count(const cnn_model *model);
CNN_API cnn_layer_info cnn_model_layer(const cnn_model *model, int layer);

/* What is done to the bytes of an image before the first layer: (x/255 - mean[c]) / std[c]. */
typedef struct cnn_normalization {
    float mean[4], std[4];
} cnn_normalization;

/* (x/255 - 0.5) / 0.5 unless it was set, or the file said otherwise. Set refuses deviations that are not positive, and
 * INT8 models, whose numbers depend on it. */
CNN_API cnn_normalization cnn_model_normalization(const cnn_model *model);
CNN_API cnn_status cnn_model_set_normalization(cnn_model *model, const cnn_normalization *normalization);

/* Whether the network ends in a softmax, as its description or ONNX file says, or as was set: descriptions and ONNX
 * files that are written end in it then. Scores are those before it all the same, for training, INT8 and
 * cnn_session_infer; no layer of cnn_model_layer stands for it. */
CNN_API bool cnn_model_softmax(const cnn_model *model);
CNN_API void cnn_model_set_softmax(cnn_model *model, bool softmax);

/* True when the model holds INT8 weights. */
CNN_API bool cnn_model_is_quantized(const cnn_model *model);

/* The data the model was trained on. */
CNN_API cnn_dataset_id cnn_model_dataset(const cnn_model *model);

/* Notes in the model what it is trained on: data set, class names, preparation of pictures. cnn_train does that, too;
 * models from other tools need it, so that what is saved knows its data. */
CNN_API cnn_status cnn_model_set_data(cnn_model *model, const cnn_dataset *data);

/* cnn_dataset_split with the seed that is stored in the model: the images that its training holds out. */
CNN_API cnn_status cnn_model_split(const cnn_model *model, const cnn_dataset *data, cnn_split *split);

/* Name of a class ("7", "sneaker", "cat"): the one stored in the model, else that of its data set; NULL when neither
 * has one. It lives as long as the model. */
CNN_API const char *cnn_model_class_name(const cnn_model *model, int label);

/* What pictures are to be made into for the model: its input, prepared as it says, else as digits when it was trained
 * on MNIST and reads 28x28 gray pixels, else resized. */
CNN_API cnn_image_form cnn_model_form(const cnn_model *model);

/* Whether the model can be run on `data`: images of its size, as many classes, and where the data or the model brings
 * names of its own the same names in the same order, prepared in the same way. CNN_ERR_SHAPE says what differs. */
CNN_API cnn_status cnn_model_check_data(const cnn_model *model, const cnn_dataset *data);

/* Writes the model as .cfg text; free() it. */
CNN_API cnn_status cnn_model_print(const cnn_model *model, char **text);

#ifdef __cplusplus
}
#endif
#endif
