/* Random networks of random shapes, calibrated on random images: the INT8 logits of every device and instruction set
 * level of this machine are those of the reference, bit for bit, and float logits agree within a bound.
 *
 *   differential [--graphs N] [--seed S] [--first I] [--cudasim-every K]
 *
 * Network I is the same for the same seed, whatever else runs. The first difference ends the run with the network as a
 * .cfg and the options that make it again. */
#include "tests/differential/graph.h"

#include "cnn/optimize.h"
#include "cnn/session.h"
#include "core/backends.h"
#include "core/hash.h"
#include "core/pool.h"
#include "core/layers.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = 5, CALIBRATION = 24, MOST_DEVICES = 8, MOST_CLASSES = 32, THREADS_EVERY = 8 };

/* rms of the difference over rms of the values, for each layer with weights; as cnn-infer --compare has it. */
#define FLOAT_BOUND 1e-5

typedef struct device_list {
    char name[MOST_DEVICES][32]; /* the levels of the CPU */
    int count;
    bool cudasim;
} device_list;

typedef struct counts {
    int graphs, refused, int8, cudasim;
    int telling;  /* networks whose INT8 logits are not the same for all images */
    double worst; /* of float differences, in bounds */
} counts;

/* One network on its way. */
typedef struct trial {
    int number;
    char *cfg;
    cnn_model *model;
    cnn_dataset data;
    int batch, classes;
    float expected[IMAGES * MOST_CLASSES];
    char problem[256]; /* "": none */
} trial;

static bool has_device(const char *name)
{
    const cnn_backend *backend;
    const char *variant;
    cnn_device *device = NULL;
    if (cnn_backend_find(name, &backend, &variant) != CNN_OK)
        return false;
    const cnn_device_options options = {.variant = variant};
    if (backend->open(cnn_host_get(), &options, &device) != CNN_OK)
        return false;
    backend->close(device);
    return true;
}

static void find_devices(device_list *devices)
{
    static const char *const levels[] = {"portable", "avx2", "avxvnni", "avx512", "avx512vnni", "amx"};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        snprintf(devices->name[devices->count], sizeof devices->name[0], "cpu:%s", levels[i]);
        devices->count += has_device(devices->name[devices->count]);
    }
    devices->cudasim = has_device("cudasim");
}

static void fail(trial *t, const char *what, const char *device)
{
    snprintf(t->problem, sizeof t->problem, "%s: %s", device, what);
}

static bool infer(trial *t, const char *device, float *logits)
{
    cnn_session *session = NULL;
    const cnn_session_options options = {.device = device, .batch = t->batch};
    cnn_status status = cnn_session_open(t->model, &options, &session);
    if (status == CNN_OK)
        status = cnn_session_infer(session, t->data.images, IMAGES, logits);
    if (status != CNN_OK)
        fail(t, cnn_last_error(), device);
    cnn_session_close(session);
    return status == CNN_OK;
}

/* rms of the difference in bounds; 0: the same bits. */
static double distance(const trial *t, const float *logits)
{
    double difference = 0, values = 0;
    int layers = 0;
    for (int i = 0; i < IMAGES * t->classes; i++) {
        const double d = (double)logits[i] - (double)t->expected[i];
        if (memcmp(&logits[i], &t->expected[i], sizeof *logits) == 0)
            continue;
        difference += isfinite(d) ? d * d : INFINITY;
    }
    for (int i = 0; i < IMAGES * t->classes; i++)
        values += (double)t->expected[i] * (double)t->expected[i];
    for (int i = 0; i < t->model->node_count; i++)
        layers += cnn_node_has_weights(&t->model->nodes[i]);
    return difference == 0 ? 0 : sqrt(difference / values) / (FLOAT_BOUND * layers);
}

static void compare(trial *t, const char *device, bool exact, counts *totals)
{
    float logits[IMAGES * MOST_CLASSES];
    if (*t->problem || !infer(t, device, logits))
        return;
    if (exact && memcmp(logits, t->expected, sizeof *logits * (size_t)(IMAGES * t->classes)) != 0)
        fail(t, "other INT8 logits than ref's", device);
    const double bounds = exact ? 0 : distance(t, logits);
    if (bounds > totals->worst)
        totals->worst = bounds;
    if (!(bounds <= 1))
        fail(t, "float logits further from ref's than allowed", device);
}

/* Zeros in blocks and in 2:4, which kernels skip, are in some. Networks that are too small for it stay as they are. */
static void prune(trial *t, graph_random *random)
{
    const cnn_prune_options options = {
        .ratio = 0.25 + 0.5 * (double)graph_below(random, 2), .criterion = CNN_CRITERION_RANDOM, .seed = random->state};
    const uint64_t kind = graph_below(random, 6);
    if (kind == 0)
        (void)cnn_prune_blocks(t->model, &options, NULL);
    else if (kind == 1)
        (void)cnn_prune_two_of_four(t->model, &options, NULL);
}

static bool quantize(trial *t, graph_random *random)
{
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.observer = graph_one_in(random, 40)   ? CNN_OBSERVER_MSE /* the slow ones */
                       : graph_one_in(random, 20) ? CNN_OBSERVER_ENTROPY
                       : graph_one_in(random, 2)  ? CNN_OBSERVER_PERCENTILE
                                                  : CNN_OBSERVER_MAX;
    options.percentile = 50.0 + 49.9 * (double)graph_below(random, 2);
    options.levels = graph_one_in(random, 30) ? 7 : 127;
    options.bias_correction = graph_one_in(random, 2);
    options.compact = graph_one_in(random, 4);
    options.images = CALIBRATION;
    options.seed = random->state;
    options.device = "cpu";
    return cnn_quantize(t->model, &t->data, &options, NULL, NULL) == CNN_OK;
}

/* Whether the images make a difference. */
static bool is_telling(const trial *t)
{
    for (int i = 1; i < IMAGES; i++)
        if (memcmp(t->expected, t->expected + i * t->classes, sizeof *t->expected * (size_t)t->classes) != 0)
            return true;
    return false;
}

static void run(trial *t, const device_list *devices, graph_random *random, bool with_cudasim, counts *totals)
{
    t->classes = cnn_model_output(t->model).c;
    t->batch = 1 + (int)graph_below(random, IMAGES);
    graph_fill(random, t->model);
    t->data = graph_images(random, t->model, CALIBRATION + 8);
    prune(t, random);
    if (infer(t, "ref", t->expected))
        for (int i = 0; i < devices->count; i++)
            compare(t, devices->name[i], false, totals);
    if (!*t->problem && cnn_fold_batchnorm(t->model) != CNN_OK)
        fail(t, cnn_last_error(), "folding");
    if (*t->problem)
        return;
    if (!quantize(t, random)) { /* images that are all blank, sums that are too large */
        totals->refused++;
        return;
    }
    totals->int8++;
    if (infer(t, "ref", t->expected))
        for (int i = 0; i < devices->count; i++)
            compare(t, devices->name[i], true, totals);
    totals->telling += is_telling(t);
    if (with_cudasim) {
        totals->cudasim++;
        compare(t, "cudasim", true, totals);
    }
}

static void report(const trial *t, long seed)
{
    printf("network %d: %s; again: differential --seed %ld --first %d --graphs 1\n\n%s\n", t->number, t->problem, seed,
           t->number, t->cfg);
}

/* False when it ends the run. */
static bool try_graph(int number, long seed, const device_list *devices, int cudasim_every, counts *totals)
{
    graph_random random = {.state = cnn_splitmix64((uint64_t)seed << 32 ^ (uint64_t)number)};
    cnn_text cfg = {0};
    trial t = {.number = number};
    graph_write(&random, &cfg);
    t.cfg = cfg.data;
    totals->graphs++;
    if (!cfg.data || cnn_model_parse(cfg.data, "random.cfg", &t.model) != CNN_OK)
        fail(&t, cnn_last_error(), "cfg");
    else
        run(&t, devices, &random, devices->cudasim && cudasim_every && number % cudasim_every == 0, totals);
    if (*t.problem)
        report(&t, seed);
    graph_free_images(&t.data);
    cnn_model_free(t.model);
    cnn_text_free(&cfg);
    return !*t.problem;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"graphs", required_argument, NULL, 'n'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"first", required_argument, NULL, 'f'},
                                            {"cudasim-every", required_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    long graphs = 300, seed = 1, first = 0, every = 1;
    for (int c = getopt_long(argc, argv, "", options, NULL); c != -1; c = getopt_long(argc, argv, "", options, NULL)) {
        if (c == '?')
            return 2;
        *(c == 'n' ? &graphs : c == 's' ? &seed : c == 'f' ? &first : &every) = atol(optarg);
    }
    device_list devices = {.count = 0};
    counts totals = {0};
    find_devices(&devices);
    if (devices.count == 0)
        return 1;
    for (int i = 0; i < devices.count; i++)
        printf("%s%s", i ? ", " : "devices: ", devices.name[i]);
    printf("%s\n", devices.cudasim ? ", cudasim" : "");
    for (long i = first; i < first + graphs; i++)
        if (cnn_set_threads(i % THREADS_EVERY == 0 ? 2 : 1) != CNN_OK ||
            !try_graph((int)i, seed, &devices, (int)every, &totals))
            return 1;
    printf(
        "%d networks: INT8 of %d is the same on all (on cudasim: %d), %d cannot be INT8, %d tell images apart; float "
        "differs by %.2g of the bound at most\n",
        totals.graphs, totals.int8, totals.cudasim, totals.refused, totals.telling, totals.worst);
    return totals.telling * 2 > totals.graphs || totals.graphs < 10 ? 0 : 1; /* else it shows nothing */
}
