/* Points of a search. */
#include "optimize/front.h"

#include "cli/interrupt.h"
#include "cli/table.h"
#include "cli/units.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/save.h"
#include "optimize/job.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HEADING                                                                                            \
    "number,from,structure,step,share,accuracy,broken,mended,images,file_bytes,weights,macs,ms_per_image," \
    "images_per_s,drop_at_most,front\n"
#define TITLE "# cnn-opt search, version 2, %08" PRIx32 "\n"

static void list_path(const opt_front *front, char *path, size_t bytes)
{
    snprintf(path, bytes, "%s/points.csv", front->folder);
}

void opt_front_model(const opt_front *front, int number, char *path, size_t bytes)
{
    snprintf(path, bytes, "%s/point-%d.cnn", front->folder, number);
}

/* ---- The list as text ---- */

static void write_visit(cnn_text *text, const opt_front *front, int number)
{
    const opt_visit *visit = &front->visits[number];
    const cnn_measurement *figures = &visit->figures;
    cnn_text_append(text, "%d,%d,%s,%.17g,%.17g,%.17g,%d,%d,%d,%lld,%lld,%lld,%.17g,%.17g,%.6g,%d\n", number,
                    visit->from, opt_structure_name(visit->structure), visit->step, visit->share, figures->accuracy,
                    visit->paired.broken, visit->paired.mended, visit->paired.images, (long long)figures->file_bytes,
                    (long long)figures->weights, (long long)figures->macs, figures->ms_per_image, figures->images_per_s,
                    cnn_paired_bound(&visit->paired), opt_front_is_best(front, number));
}

static int find_structure(const char *name)
{
    for (int i = 0; i < OPT_STRUCTURES; i++)
        if (strcmp(name, opt_structure_name(i)) == 0)
            return i;
    return -1;
}

/* The last two columns follow from the others. */
static bool read_visit(const char *line, int number, opt_visit *visit)
{
    cnn_measurement *figures = &visit->figures;
    long long file_bytes, weights, macs;
    char structure[16];
    double bound;
    int stored, best, used = 0;
    int values = sscanf(line, "%d,%d,%15[^,],%lf,%lf,%lf,%d,%d,%d,%lld,%lld,%lld,%lf,%lf,%lf,%d%n", &stored,
                        &visit->from, structure, &visit->step, &visit->share, &figures->accuracy, &visit->paired.broken,
                        &visit->paired.mended, &visit->paired.images, &file_bytes, &weights, &macs,
                        &figures->ms_per_image, &figures->images_per_s, &bound, &best, &used);
    if (values != 16 || line[used] != '\n' || stored != number || visit->from < -1 || visit->from >= number)
        return false;
    visit->structure = find_structure(structure);
    figures->file_bytes = file_bytes;
    figures->weights = weights;
    figures->macs = macs;
    return true;
}

static cnn_status save(const opt_front *front)
{
    cnn_status status = CNN_OK;
    char path[1100];
    cnn_text text = {0};
    list_path(front, path, sizeof path);
    cnn_text_append(&text, TITLE HEADING, front->key);
    for (int i = 0; i < front->count; i++)
        write_visit(&text, front, i);
    if (text.failed)
        status = CNN_ERR_MEMORY;
    cnn_interrupt_hold(NULL);
    if (status == CNN_OK)
        status = cnn_save_file(path, text.data, strlen(text.data));
    cnn_interrupt_release();
    free(text.data);
    return status;
}

static cnn_status damaged(const char *path, int line)
{
    return cnn_error(CNN_ERR_FORMAT, "%s, line %d: this is not what a search writes; remove the folder to begin anew",
                     path, line);
}

static cnn_status read_list(opt_front *front, FILE *file, const char *path)
{
    char line[512];
    uint32_t key;
    if (!fgets(line, sizeof line, file) || sscanf(line, TITLE, &key) != 1)
        return damaged(path, 1);
    if (key != front->key)
        return cnn_error(CNN_ERR_USAGE,
                         "%s belongs to a search of another model or with other options; name another folder with "
                         "--search, or remove this one",
                         front->folder);
    if (!fgets(line, sizeof line, file) || strcmp(line, HEADING) != 0)
        return damaged(path, 2);
    while (fgets(line, sizeof line, file)) {
        if (front->count == OPT_MOST_POINTS || !read_visit(line, front->count, &front->visits[front->count]))
            return damaged(path, front->count + 3);
        front->count++;
    }
    return CNN_OK;
}

cnn_status opt_front_open(opt_front *front, const char *folder, uint32_t key)
{
    cnn_status status = CNN_OK;
    char path[1100];
    FILE *file = NULL;
    *front = (opt_front){.key = key};
    if (strlen(folder) >= sizeof front->folder)
        CNN_FAIL(CNN_ERR_USAGE, "the name of the search's folder has more than %zu bytes; take a shorter one",
                 sizeof front->folder - 1);
    snprintf(front->folder, sizeof front->folder, "%s", folder);
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        CNN_FAIL(CNN_ERR_IO, "%s: cannot make this folder for the search: %s", folder, strerror(errno));
    list_path(front, path, sizeof path);
    file = fopen(path, "r");
    if (file)
        CNN_TRY(read_list(front, file, path));
    else if (errno != ENOENT)
        CNN_FAIL(CNN_ERR_IO, "%s: cannot read it: %s", path, strerror(errno));
out:
    if (file)
        fclose(file);
    return status;
}

/* ---- Points ---- */

int opt_front_find(const opt_front *front, int from, int structure, double step)
{
    for (int i = 0; i < front->count; i++) {
        const opt_visit *visit = &front->visits[i];
        if (visit->from == from && visit->structure == structure && visit->step == step)
            return i;
    }
    return -1;
}

cnn_status opt_front_add(opt_front *front, const opt_visit *visit)
{
    if (front->count == OPT_MOST_POINTS)
        return cnn_error(CNN_ERR_USAGE, "%s holds %d points already, as many as a search may have", front->folder,
                         OPT_MOST_POINTS);
    front->visits[front->count++] = *visit;
    return save(front);
}

/* Whether a is at least as good as b everywhere, and better somewhere. */
static bool beats(const cnn_measurement *a, const cnn_measurement *b)
{
    if (a->accuracy < b->accuracy || a->file_bytes > b->file_bytes || a->ms_per_image > b->ms_per_image)
        return false;
    return a->accuracy > b->accuracy || a->file_bytes < b->file_bytes || a->ms_per_image < b->ms_per_image;
}

bool opt_front_is_best(const opt_front *front, int number)
{
    for (int i = 0; i < front->count; i++)
        if (beats(&front->visits[i].figures, &front->visits[number].figures))
            return false;
    return true;
}

void opt_front_json(const opt_front *front, int chosen, cnn_json *json)
{
    cnn_json_array(json, "search");
    for (int i = 0; i < front->count; i++) {
        const opt_visit *visit = &front->visits[i];
        cnn_json_object(json, NULL);
        cnn_json_integer(json, "number", i);
        cnn_json_integer(json, "from", visit->from);
        cnn_json_string(json, "structure", opt_structure_name(visit->structure));
        cnn_json_number(json, "step", visit->step);
        cnn_json_number(json, "share", visit->share);
        cnn_json_number(json, "accuracy", visit->figures.accuracy);
        cnn_json_integer(json, "images", visit->paired.images);
        cnn_json_integer(json, "broken", visit->paired.broken);
        cnn_json_integer(json, "mended", visit->paired.mended);
        cnn_json_number(json, "drop_at_most", cnn_paired_bound(&visit->paired));
        cnn_json_integer(json, "file_bytes", visit->figures.file_bytes);
        cnn_json_integer(json, "macs", visit->figures.macs);
        cnn_json_number(json, "ms_per_image", visit->figures.ms_per_image);
        cnn_json_bool(json, "pareto", opt_front_is_best(front, i));
        cnn_json_bool(json, "chosen", i == chosen);
        cnn_json_close(json);
    }
    cnn_json_close(json);
}

cnn_status opt_front_print(const opt_front *front, int chosen)
{
    cnn_table table;
    char text[CNN_UNIT_BYTES];
    cnn_table_begin(&table, ">point|>from|<lost|>left|>accuracy|>lost at most|>file|>MACs|>ms/image|<");
    for (int i = 0; i < front->count; i++) {
        const opt_visit *visit = &front->visits[i];
        cnn_table_cell(&table, "%d", i);
        if (visit->structure < 0) {
            cnn_table_cell(&table, "%s", "");
            cnn_table_cell(&table, "%s", "");
        } else {
            cnn_table_cell(&table, "%d", visit->from);
            cnn_table_cell(&table, "%.3g %% %ss", 100 * visit->step, opt_structure_name(visit->structure));
        }
        cnn_table_cell(&table, "%.3g %%", 100 * (1 - visit->share));
        cnn_table_cell(&table, "%.2f %%", 100 * visit->figures.accuracy);
        cnn_table_cell(&table, "%.2f", 100 * cnn_paired_bound(&visit->paired));
        cnn_table_cell(&table, "%s", cnn_format_bytes(text, visit->figures.file_bytes));
        cnn_table_cell(&table, "%s", cnn_format_count(text, visit->figures.macs));
        cnn_table_cell(&table, "%.3g", visit->figures.ms_per_image);
        cnn_table_cell(&table, "%s", i == chosen ? "chosen" : opt_front_is_best(front, i) ? "front" : "");
    }
    return cnn_table_end(&table, stdout);
}
