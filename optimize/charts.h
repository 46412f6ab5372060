/* Charts of a report, as SVG inside its page. */
#ifndef CNN_OPTIMIZE_CHARTS_H
#define CNN_OPTIMIZE_CHARTS_H

#include "optimize/facts.h"

/* Accuracy against the size of the file, or against the time of one image. A line joins passes in their order, or of a
 * search the points that no other one beats. */
void opt_chart_front(cnn_text *page, const opt_facts *facts, bool time, bool search);

/* Two bars a layer, before and after. */
typedef struct opt_bar {
    const char *name;
    double before, after;
} opt_bar;
void opt_chart_bars(cnn_text *page, const opt_bar *bars, int count, const char *what, bool bytes);

/* The error of the logits that each trial makes in each layer. */
void opt_chart_sensitivity(cnn_text *page, const opt_account *account);

/* Signal to noise of each layer's INT8 values. */
void opt_chart_sqnr(cnn_text *page, const opt_account *account);

/* The weights of one layer, before and after. */
void opt_chart_histogram(cnn_text *page, const opt_layer_facts *layer, const char *name);

/* Small pictures of what marks the trials and the histograms, for legends. */
void opt_chart_key(cnn_text *page, int trial);

#endif
