/* Aligned text tables for standard output.
 *
 *     cnn_table table;
 *     cnn_table_begin(&table, "<pass|>accuracy|>bytes");    // < left, > right
 *     cnn_table_cell(&table, "%s", "prune");                // cells in row order
 *     cnn_table_cell(&table, "%.2f %%", 98.5);
 *     cnn_table_cell(&table, "%zu", bytes);
 *     cnn_table_end(&table, stdout);                        // prints and frees
 */
#ifndef CNN_CLI_TABLE_H
#define CNN_CLI_TABLE_H

#include "cnn/status.h"

#include <stdio.h>

enum { CNN_TABLE_COLUMNS = 16 };

typedef struct cnn_table {
    int columns;
    bool right[CNN_TABLE_COLUMNS];
    char **cells; /* [count], row by row, the headings first */
    int count, capacity;
    bool failed; /* out of memory: cells are dropped */
} cnn_table;

void cnn_table_begin(cnn_table *table, const char *columns);
void cnn_table_cell(cnn_table *table, const char *format, ...) CNN_PRINTF(2, 3);

/* Prints the table (a row that is not full ends early) and frees it. CNN_ERR_MEMORY when cells were lost. */
cnn_status cnn_table_end(cnn_table *table, FILE *out);

#endif
