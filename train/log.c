/* Writing the log, and cutting it back where a run goes on. */
#include "train/log.h"

#include "cli/json.h"
#include "cli/message.h"
#include "core/error.h"
#include "train/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Every line begins with these two, which is how a log is read again. */
#define LINE_FORMAT "{\"event\": \"%15[a-z]\", \"step\": %" SCNd64 ", \"epoch\": %" SCNd32
enum { LINE_FIELDS = 2, LINE_FIELDS_WITH_EPOCH = 3, EVENT_BYTES = 16, PIECE_BYTES = 512 };

static cnn_status fail_errno(const char *path, const char *what)
{
    return cnn_error(CNN_ERR_IO, "%s: cannot %s: %s; name another --log", path, what, strerror(errno));
}

/* ---- Reading ---- */

typedef struct log_line {
    char event[EVENT_BYTES];
    int64_t step;
    int32_t epoch; /* 0: it has none */
} log_line;

/* Reads the next line; false at the end, at one that is not whole, and at one that is not ours. */
static bool read_line(FILE *file, log_line *line)
{
    char piece[PIECE_BYTES];
    *line = (log_line){0};
    if (!fgets(piece, sizeof piece, file) ||
        sscanf(piece, LINE_FORMAT, line->event, &line->step, &line->epoch) < LINE_FIELDS)
        return false;
    while (!strchr(piece, '\n'))
        if (!fgets(piece, sizeof piece, file))
            return false;
    return true;
}

/* Whether a run that goes on from here would not write this line again. */
static bool is_past(const log_line *line, const cnn_train_progress *progress)
{
    if (strcmp(line->event, "end") == 0 || line->step > progress->step)
        return false;
    return strcmp(line->event, "epoch") != 0 || line->epoch <= progress->whole_epochs;
}

/* Cuts off what this run writes itself: all of it, or what lies beyond the checkpoint. */
static cnn_status cut(train_log *log, const cnn_train_progress *progress)
{
    log_line line;
    off_t end = 0;
    rewind(log->file);
    while (progress->resumed && read_line(log->file, &line) && is_past(&line, progress))
        end = ftello(log->file);
    if (end < 0 || fflush(log->file) != 0 || ftruncate(fileno(log->file), end) != 0 ||
        fseeko(log->file, end, SEEK_SET) != 0)
        return fail_errno(log->path, "shorten it");
    log->whole_bytes = end;
    return CNN_OK;
}

cnn_status train_log_open(train_log *log, const char *path)
{
    cnn_status status = CNN_OK;
    struct stat info;
    log_line line;
    *log = (train_log){.path = path};
    if (!path)
        return CNN_OK;
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail_errno(path, "open it for writing");
    log->file = fdopen(fd, "r+");
    if (!log->file) {
        close(fd);
        return fail_errno(path, "open it for writing");
    }
    if (fstat(fd, &info) != 0)
        CNN_TRY(fail_errno(path, "look at it"));
    if (!S_ISREG(info.st_mode))
        CNN_FAIL(CNN_ERR_IO, "%s: is no regular file, which a log has to be; name another --log", path);
    if (info.st_size > 0 && (!read_line(log->file, &line) || strcmp(line.event, "start") != 0))
        CNN_FAIL(CNN_ERR_IO, "%s: is there and is no log of cnn-train; name another --log, or move it away", path);
out:
    if (status != CNN_OK)
        train_log_close(log);
    return status;
}

void train_log_close(train_log *log)
{
    if (log->file)
        fclose(log->file);
    log->file = NULL;
}

/* ---- Writing ---- */

static void begin_line(cnn_json *json, train_run *run, const char *event, int64_t step, int32_t epoch)
{
    cnn_json_begin(json, run->log.file);
    cnn_json_string(json, "event", event);
    cnn_json_integer(json, "step", step);
    cnn_json_integer(json, "epoch", epoch);
}

/* Closes a log whose last line was not written, or in part. Closing tries that line once more, so what is not whole
 * goes afterwards. */
static void give_up(train_log *log)
{
    const int fd = dup(fileno(log->file));
    train_log_close(log);
    if (fd < 0)
        return;
    if (ftruncate(fd, (off_t)log->whole_bytes) != 0)
        errno = 0; /* nothing is left to try: a reader stops at the last whole line */
    close(fd);
}

static void end_line(cnn_json *json, train_run *run)
{
    char text[32] = "";
    const time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    cnn_json_string(json, "time", text);
    cnn_json_end(json);
    if (fflush(run->log.file) == 0 && !ferror(run->log.file)) {
        run->log.whole_bytes = ftello(run->log.file);
        return;
    }
    cnn_message_error(run->cli, "%s: cannot write it: %s; the log ends here, training goes on", run->log.path,
                      strerror(errno));
    give_up(&run->log);
}

/* The value of an option; null when it was not given and has none. */
static void put_option(cnn_json *json, const cnn_option *option, const void *settings)
{
    const char *at = (const char *)settings + option->offset;
    double number = 0;
    switch (option->kind) {
    case CNN_OPTION_FLAG:
        cnn_json_bool(json, option->name, *(const bool *)at);
        return;
    case CNN_OPTION_STRING:
        cnn_json_string(json, option->name, *(const char *const *)at);
        return;
    case CNN_OPTION_CHOICE:
        cnn_json_string(json, option->name, *(const int *)at < 0 ? NULL : option->choices[*(const int *)at]);
        return;
    case CNN_OPTION_INT:
        number = *(const int *)at;
        break;
    case CNN_OPTION_INT64:
        number = (double)*(const int64_t *)at;
        break;
    case CNN_OPTION_DOUBLE:
        number = *(const double *)at;
        break;
    }
    const bool whole = option->kind != CNN_OPTION_DOUBLE;
    const double min = whole ? (double)option->int_min : option->min;
    if (option->word && number == option->word_value)
        cnn_json_string(json, option->name, option->word);
    else if (number < min)
        cnn_json_string(json, option->name, NULL);
    else
        cnn_json_number(json, option->name, number);
}

static void log_start(train_run *run, const cnn_train_progress *progress)
{
    cnn_json json;
    begin_line(&json, run, "start", 0, 0);
    cnn_json_string(&json, "version", cnn_version());
    cnn_json_integer(&json, "weights", cnn_model_weight_count(run->model));
    cnn_json_string(&json, "data", cnn_dataset_name(run->data->id));
    cnn_json_integer(&json, "train_images", progress->train_images);
    cnn_json_integer(&json, "val_images", progress->val_images);
    cnn_json_integer(&json, "steps", progress->steps);
    cnn_json_string(&json, "device", progress->device);
    cnn_json_object(&json, "options");
    for (const cnn_option *option = train_tool.options; option->name; option++)
        put_option(&json, option, run->set);
    cnn_json_integer(&json, "seed", run->cli->common.seed);
    cnn_json_close(&json);
    end_line(&json, run);
}

cnn_status train_log_begin(train_run *run, const cnn_train_progress *progress)
{
    cnn_json json;
    if (!run->log.file)
        return CNN_OK;
    const cnn_status status = cut(&run->log, progress);
    if (status != CNN_OK)
        return status;
    if (ftello(run->log.file) == 0)
        log_start(run, progress);
    if (progress->resumed && run->log.file) {
        begin_line(&json, run, "resume", progress->step, progress->epoch);
        end_line(&json, run);
    }
    return CNN_OK;
}

/* The double whose decimal form is the float's: 0.01 and not 0.009999999776482582. */
static double plainly(float value)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return strtod(text, NULL);
}

static void put_progress(cnn_json *json, const cnn_train_progress *progress)
{
    cnn_json_integer(json, "images", progress->images);
    cnn_json_number(json, "loss", progress->loss);
    cnn_json_number(json, "learning_rate", plainly(progress->learning_rate));
    cnn_json_number(json, "loss_scale", (double)progress->loss_scale);
    cnn_json_integer(json, "skipped_steps", progress->skipped_steps);
    cnn_json_number(json, "seconds", progress->seconds);
}

void train_log_step(train_run *run, const cnn_train_progress *progress)
{
    cnn_json json;
    if (!run->log.file || progress->step % run->set->log_every != 0)
        return;
    begin_line(&json, run, "step", progress->step, progress->epoch);
    cnn_json_number(&json, "step_loss", progress->step_loss);
    put_progress(&json, progress);
    end_line(&json, run);
}

void train_log_epoch(train_run *run, const cnn_train_progress *progress)
{
    cnn_json json;
    if (!run->log.file)
        return;
    begin_line(&json, run, "epoch", progress->step, progress->epoch);
    cnn_json_number(&json, "val_accuracy", progress->val_accuracy);
    cnn_json_number(&json, "val_loss", progress->val_loss);
    put_progress(&json, progress);
    end_line(&json, run);
}

void train_log_end(train_run *run, const cnn_train_result *result, double test_accuracy)
{
    cnn_json json;
    if (!run->log.file)
        return;
    begin_line(&json, run, "end", run->at.step, run->at.whole_epochs);
    cnn_json_number(&json, "test_accuracy", test_accuracy);
    cnn_json_number(&json, "val_accuracy", result->val_accuracy);
    cnn_json_number(&json, "loss", result->loss);
    cnn_json_integer(&json, "images", result->images);
    cnn_json_number(&json, "images_per_s", result->images_per_s);
    cnn_json_integer(&json, "skipped_steps", result->skipped_steps);
    cnn_json_number(&json, "loss_scale_min", (double)result->loss_scale_min);
    cnn_json_number(&json, "loss_scale_max", (double)result->loss_scale_max);
    cnn_json_string(&json, "file", run->set->output);
    end_line(&json, run);
}
