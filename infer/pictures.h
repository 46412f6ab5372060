/* What reading pictures is made of: the pictures, the images a network reads from them, and their probabilities. */
#ifndef CNN_INFER_PICTURES_H
#define CNN_INFER_PICTURES_H

#include "infer/infer.h"

/* One picture. A number has an image for each of its digits. */
typedef struct picture_entry {
    const char *file;
    int first, count; /* of its images */
    bool touching;    /* digits may touch */
    bool changed;     /* its answer is another than without --sanitize */
} picture_entry;

/* Where an image stands in its picture, pixels. */
typedef struct picture_place {
    int32_t x, y, width, height;
} picture_place;

/* The pictures that could be read, in order. */
typedef struct picture_batch {
    picture_entry *entry; /* [count] */
    int count;
    uint8_t *pixels;      /* [images,H,W,C] */
    picture_place *place; /* [images] */
    float *logits;        /* [images,classes] */
    int images, capacity; /* capacity: of pixels and place */
} picture_batch;

/* Prints what the network says about each picture, as a table or as JSON. */
cnn_status infer_print_results(const infer_run *run, const picture_batch *batch);

/* Draws images side by side, as the network saw them. pixels: [count,H,W,C] */
void infer_show(const infer_run *run, const uint8_t *pixels, int count);

#endif
