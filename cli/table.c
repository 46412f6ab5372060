/* Aligned text tables. */
#include "cli/table.h"

#include "cli/style.h"

#include "core/error.h"
#include "core/memory.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 2 };

/* Takes over `text`. */
static void add_cell(cnn_table *table, char *text)
{
    if (table->count == table->capacity) {
        int capacity = table->capacity ? 2 * table->capacity : 64;
        char **cells = cnn_realloc(table->cells, (size_t)capacity, sizeof *cells);
        if (!cells) {
            table->failed = true;
            free(text);
            return;
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    table->failed = table->failed || !text;
    table->cells[table->count++] = text;
}

void cnn_table_begin(cnn_table *table, const char *columns)
{
    *table = (cnn_table){0};
    while (*columns && table->columns < CNN_TABLE_COLUMNS) {
        size_t length = strcspn(columns, "|");
        table->right[table->columns++] = *columns == '>';
        add_cell(table, cnn_format("%.*s", (int)length - 1, columns + 1));
        columns += length + (columns[length] == '|');
    }
}

void cnn_table_cell(cnn_table *table, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : cnn_calloc((size_t)length + 1, 1);
    if (text) {
        va_start(args, format);
        vsnprintf(text, (size_t)length + 1, format, args);
        va_end(args);
    }
    add_cell(table, text);
}

static void print_row(const cnn_table *table, const int *width, int row, FILE *out)
{
    int pending = 0; /* spaces owed: none are printed at the end of a line */
    for (int c = 0; c < table->columns && row * table->columns + c < table->count; c++) {
        const char *cell = table->cells[row * table->columns + c];
        int space = width[c] - (int)strlen(cell);
        pending += (c ? GAP : 0) + (table->right[c] ? space : 0);
        if (*cell) {
            fprintf(out, "%*s%s", pending, "", cell);
            pending = 0;
        } else if (table->right[c]) {
            space = 0;
        }
        pending += table->right[c] ? 0 : space;
    }
    fputc('\n', out);
}

cnn_status cnn_table_end(cnn_table *table, FILE *out)
{
    cnn_status status = table->failed ? cnn_error(CNN_ERR_MEMORY, "out of memory while making a table") : CNN_OK;
    int width[CNN_TABLE_COLUMNS] = {0};
    for (int i = 0; status == CNN_OK && i < table->count; i++) {
        int length = (int)strlen(table->cells[i]);
        if (length > width[i % table->columns])
            width[i % table->columns] = length;
    }
    for (int row = 0; status == CNN_OK && row * table->columns < table->count; row++) {
        fputs(row == 0 ? cnn_style_on(out, CNN_STYLE_BOLD) : "", out);
        print_row(table, width, row, out);
        fputs(row == 0 ? cnn_style_on(out, CNN_STYLE_PLAIN) : "", out);
    }
    for (int i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    *table = (cnn_table){0};
    return status;
}
