/* What the parts of cnn-infer share. */
#ifndef CNN_INFER_H
#define CNN_INFER_H

#include "cli/cli.h"

#include "cnn/picture.h"
#include "cnn/robust.h"
#include "cnn/session.h"
#include "core/sign.h"

/* The options of cnn-infer. */
typedef struct infer_settings {
    const char *model; /* NULL: look for one in the current folder */
    bool test, bench, dump_program;
    const char *compare; /* the other device, or NULL */
    const char *input;   /* a NumPy array of images, or NULL */
    int images;          /* of --compare; 0: not given */
    const char *logits;  /* file, or NULL */
    int batch;           /* 0: not given */
    int topk;            /* 0: not given */
    bool show;
    bool held_out, sandbox;
    int attack;                        /* cnn_attack_method; -1: not given */
    double eps, attack_step;           /* 0: not given */
    int attack_steps, attack_restarts; /* 0: not given */
    int attack_start;                  /* 0: random, 1: the image; -1: not given */
    const char *attack_from;           /* a model's file, or NULL */
    bool attack_sanitized;             /* the attack knows of `sanitize` */
    const char *require_signature;     /* a public key's file, or NULL */
    const char *sanitize;              /* "median,bits=1,centre", or NULL */
} infer_settings;

/* ---- options.c ---- */

extern const cnn_tool infer_tool;

/* The defaults, before the command line is parsed. */
void infer_settings_init(infer_settings *settings);

/* Refuses options that contradict each other or do nothing. */
cnn_status infer_settings_check(const cnn_cli *cli, const infer_settings *settings);

/* What --sanitize does when it is given alone. */
#define INFER_SANITIZE_STANDARD "bits=1"

enum { INFER_MAX_DEVICES = 8, INFER_DEVICE_BYTES = 256, INFER_COMPARE_IMAGES = 16 };

/* A model that is open on a device. */
typedef struct infer_run {
    cnn_cli *cli;
    const infer_settings *settings;
    const char *path;   /* of the model */
    cnn_public_key key; /* of --require-signature */
    cnn_model *model;
    const char *device[INFER_MAX_DEVICES]; /* of --device: several with --bench */
    int device_count;
    char device_text[INFER_DEVICE_BYTES];
    cnn_session *session;  /* on the first device */
    cnn_tensor_desc input; /* [1,H,W,C] */
    int classes, batch;
} infer_run;

/* Bytes of one image. */
static inline size_t infer_image_bytes(const infer_run *run)
{
    return (size_t)cnn_desc_elements(&run->input);
}

/* Reads the pictures named on the command line and prints a label for each. A picture that cannot be read is reported
 * and left out. The model is opened with `open`, while other threads prepare pictures where that is possible. */
cnn_status infer_pictures(infer_run *run, cnn_status (*open)(infer_run *run));

/* Accuracy on the test set, and the raw scores into a file. */
cnn_status infer_evaluate(infer_run *run);

/* Reads the images of --input and prints a label for each, or writes their scores. */
cnn_status infer_array(infer_run *run);

/* Writes scores [images,classes] to the file of --logits: float32, little-endian on any machine, as a NumPy array when
 * its name ends in .npy. The scores may be changed. */
cnn_status infer_write_logits(const infer_run *run, float *logits, int64_t images);

/* Latency and throughput on each device, and where the time goes. */
cnn_status infer_bench(infer_run *run);

/* Another device beside this one, layer by layer; a divergence is reported as an error. */
cnn_status infer_compare(infer_run *run);

/* The test set: the one that was named, else the one that the model names; with --held-out the images that training
 * with that data held out. The caller frees it. */
cnn_status infer_load_test_set(infer_run *run, cnn_dataset **loaded);

/* Refuses options of attacks and of --sanitize that do not go together. */
cnn_status infer_check_attack(const infer_settings *settings);

/* Accuracy on the test set as it is, under an attack, and sanitized. */
cnn_status infer_attack(infer_run *run);

/* Reads --sanitize. */
cnn_status infer_parse_sanitize(const char *text, cnn_sanitize_options *options);

/* With --sanitize changes images [count,H,W,C] in place and their scores [count,classes], which were of the images as
 * they were; changed [count] says whose answer is another now, all false without --sanitize. */
cnn_status infer_sanitize(infer_run *run, uint8_t *images, int64_t count, float *logits, bool *changed);

/* Class with the largest score, the first of equals. scores: [classes] */
int infer_best(const float *scores, int classes);

#endif
