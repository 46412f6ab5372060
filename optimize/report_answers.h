/* The part of a page that shows answers. */
#ifndef CNN_OPTIMIZE_REPORT_ANSWERS_H
#define CNN_OPTIMIZE_REPORT_ANSWERS_H

#include "optimize/facts.h"

/* Appends the confusion matrices, before and after, and the pictures that are answered otherwise; nothing where no
 * images were held out. */
void opt_report_answers(cnn_text *page, const opt_facts *facts);

#endif
