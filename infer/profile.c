/* Where the time of a batch goes: a clock at every instruction, the median of some runs. */
#include "infer/profile.h"

#include "cli/table.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/memory.h"

#include <stdlib.h>

/* Enough runs for a median; fewer when they take long. */
enum { MOST_RUNS = 51, FEW_RUNS = 3 };
static const double enough_s = 1;

/* While measuring. */
typedef struct profile_recorder {
    infer_profile *profile;
    double *times; /* [count,MOST_RUNS] ms */
} profile_recorder;

/* Makes the rows when the first instruction of the first run shows how many there are. */
static cnn_status make_rows(profile_recorder *recorder, int count)
{
    infer_profile *profile = recorder->profile;
    profile->rows = cnn_calloc((size_t)count, sizeof *profile->rows);
    recorder->times = cnn_calloc((size_t)count * MOST_RUNS, sizeof *recorder->times);
    profile->count = profile->rows && recorder->times ? count : 0;
    return profile->count ? CNN_OK : CNN_ERR_MEMORY;
}

static cnn_status record(void *context, const cnn_trace *trace)
{
    profile_recorder *recorder = context;
    infer_profile *profile = recorder->profile;
    if (!profile->rows && make_rows(recorder, trace->instructions) != CNN_OK)
        return CNN_ERR_MEMORY;
    profile->rows[trace->instruction] = (infer_profile_row){.layer = trace->layer,
                                                            .ends_in = trace->ends_in,
                                                            .op = cnn_op_info_get(trace->desc->op)->name,
                                                            .kernel = trace->kernel,
                                                            .macs = trace->macs};
    recorder->times[trace->instruction * MOST_RUNS + profile->runs] = 1e3 * trace->seconds;
    return CNN_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void find_medians(infer_profile *profile, double *times)
{
    for (int i = 0; i < profile->count; i++) {
        qsort(times + i * MOST_RUNS, (size_t)profile->runs, sizeof *times, compare_doubles);
        profile->rows[i].ms = times[i * MOST_RUNS + profile->runs / 2];
        profile->ms += profile->rows[i].ms;
    }
}

cnn_status infer_profile_measure(cnn_session *session, const uint8_t *images, int batch, float *logits,
                                 infer_profile *profile)
{
    cnn_status status = CNN_OK;
    profile_recorder recorder = {.profile = profile};
    double start = cnn_clock();
    *profile = (infer_profile){.count = 0};
    cnn_session_trace(session, record, &recorder, false);
    while (profile->runs < MOST_RUNS && (profile->runs < FEW_RUNS || cnn_clock() - start < enough_s)) {
        CNN_TRY(cnn_session_infer(session, images, batch, logits));
        profile->runs++;
    }
    find_medians(profile, recorder.times);
out:
    cnn_session_trace(session, NULL, NULL, false);
    free(recorder.times);
    if (status != CNN_OK)
        infer_profile_free(profile);
    return status;
}

void infer_profile_free(infer_profile *profile)
{
    free(profile->rows);
    *profile = (infer_profile){.count = 0};
}

static double share(const infer_profile *profile, const infer_profile_row *row)
{
    return profile->ms > 0 ? row->ms / profile->ms : 0;
}

/* Billions of multiply-accumulates in a second; 0 for what does none. */
static double rate(const infer_profile_row *row)
{
    return row->ms > 0 ? 1e-6 * (double)row->macs / row->ms : 0;
}

cnn_status infer_profile_print(const infer_profile *profile)
{
    cnn_table table;
    cnn_table_begin(&table, "<layer|<to|>ms|>share|>GMAC/s|<kernel");
    for (int i = 0; i < profile->count; i++) {
        const infer_profile_row *row = &profile->rows[i];
        cnn_table_cell(&table, "%s", row->layer);
        cnn_table_cell(&table, "%s", row->ends_in == row->layer ? "" : row->ends_in);
        cnn_table_cell(&table, "%.4f", row->ms);
        cnn_table_cell(&table, "%.1f %%", 100 * share(profile, row));
        if (row->macs > 0)
            cnn_table_cell(&table, "%.1f", rate(row));
        else
            cnn_table_cell(&table, "%s", "");
        cnn_table_cell(&table, "%s", row->kernel);
    }
    return cnn_table_end(&table, stdout);
}

void infer_profile_write(const infer_profile *profile, cnn_json *json)
{
    cnn_json_array(json, "layers");
    for (int i = 0; i < profile->count; i++) {
        const infer_profile_row *row = &profile->rows[i];
        cnn_json_object(json, NULL);
        cnn_json_string(json, "layer", row->layer);
        cnn_json_string(json, "ends_in", row->ends_in);
        cnn_json_string(json, "op", row->op);
        cnn_json_string(json, "kernel", row->kernel);
        cnn_json_integer(json, "macs", row->macs);
        cnn_json_number(json, "ms", row->ms);
        cnn_json_number(json, "share", share(profile, row));
        cnn_json_number(json, "gmac_per_s", rate(row));
        cnn_json_close(json);
    }
    cnn_json_close(json);
}
