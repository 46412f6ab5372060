/* The points that a search visits, and the file that keeps them.
 *
 * A folder of a search holds points.csv, which is written anew after each point, and the float model of each,
 * point-N.cnn; so a search that was interrupted goes on where it was. Its first line names what the points follow
 * from: the model and every option that changes them. */
#ifndef CNN_OPTIMIZE_FRONT_H
#define CNN_OPTIMIZE_FRONT_H

#include "cli/json.h"
#include "optimize/measure.h"
#include "optimize/promise.h"
#include "optimize/tool.h"

enum { OPT_MOST_POINTS = 64 };

/* A model that was tried. */
typedef struct opt_visit {
    int from;      /* the point whose weights it began with; -1: the model as it was given */
    int structure; /* what it lost beside that, opt_structure; -1: nothing */
    double step;   /* the share that it lost */
    double share;  /* of the given model's weights that are 0 or gone */
    cnn_measurement figures;
    cnn_paired paired; /* beside the given model, on the validation images */
} opt_visit;

typedef struct opt_front {
    char folder[1024];
    uint32_t key; /* of model and options */
    opt_visit visits[OPT_MOST_POINTS];
    int count;
} opt_front;

/* Begins in a folder, which is made when it is missing, or goes on with what it holds. A folder of another search is
 * refused: CNN_ERR_USAGE. */
cnn_status opt_front_open(opt_front *front, const char *folder, uint32_t key);

/* The number of a visit from there with that step; -1: none. */
int opt_front_find(const opt_front *front, int from, int structure, double step);

/* Adds a visit and saves the list. Returns CNN_ERR_USAGE when the list is full. */
cnn_status opt_front_add(opt_front *front, const opt_visit *visit);

/* The file of the float model of point `number`. */
void opt_front_model(const opt_front *front, int number, char *path, size_t bytes);

/* Whether no other point is better in accuracy, bytes or time without being worse in another of these. */
bool opt_front_is_best(const opt_front *front, int number);

/* "search": the points as an array of objects. */
void opt_front_json(const opt_front *front, int chosen, cnn_json *json);

/* The points as a table on standard output. */
cnn_status opt_front_print(const opt_front *front, int chosen);

#endif
