/* What the tools print with: JSON, tables, units, messages, the progress bar. */
#define _XOPEN_SOURCE 700 /* posix_openpt */
#include "cli/json.h"
#include "cli/message.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "cli/units.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

START_TEST(json_is_escaped_and_nested)
{
    cnn_json json;
    char *text;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    cnn_json_begin(&json, out);
    cnn_json_string(&json, "a\"b\\", "tab\there \xc3\xa9 \xff \xed\xa0\x80 \x01");
    cnn_json_array(&json, "list");
    cnn_json_integer(&json, NULL, INT64_MIN);
    cnn_json_object(&json, NULL);
    cnn_json_close(&json);
    cnn_json_bool(&json, NULL, true);
    cnn_json_close(&json);
    cnn_json_number(&json, "nan", (double)NAN);
    cnn_json_number(&json, "inf", -HUGE_VAL);
    cnn_json_string(&json, "none", NULL);
    cnn_json_end(&json);
    fclose(out);
    ck_assert_str_eq(text,
                     "{\"a\\\"b\\\\\": \"tab\\u0009here \xc3\xa9 \\ufffd \\ufffd\\ufffd\\ufffd \\u0001\", "
                     "\"list\": [-9223372036854775808, {}, true], \"nan\": null, \"inf\": null, \"none\": null}\n");
    free(text);
}
END_TEST

START_TEST(json_numbers_read_back)
{
    static const double values[] = {0, -0.0, 0.1, 1.0 / 3, 1e300, 5e-324, 123456789.0, 0.9852, 2147483648.5};
    char *text, *at;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    cnn_json json;
    cnn_json_begin(&json, out);
    cnn_json_number(&json, "x", values[_i]);
    cnn_json_end(&json);
    fclose(out);
    at = strchr(text, ':');
    ck_assert(strtod(at + 1, NULL) == values[_i]);
    free(text);
}
END_TEST

START_TEST(table_is_aligned)
{
    cnn_table table;
    char *text;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    cnn_table_begin(&table, "<pass|>bytes|<");
    static const char *const cells[] = {"trained", "29000000", "", "prune", "7", "note"};
    for (int i = 0; i < 6; i++)
        cnn_table_cell(&table, "%s", cells[i]);
    ck_assert_int_eq(cnn_table_end(&table, out), CNN_OK);
    fclose(out);
    ck_assert_str_eq(text, "pass        bytes\n"
                           "trained  29000000\n"
                           "prune           7  note\n");
    free(text);
}
END_TEST

START_TEST(units_read_well)
{
    char text[CNN_UNIT_BYTES];
    ck_assert_str_eq(cnn_format_time(text, 0.44), "0.4 s");
    ck_assert_str_eq(cnn_format_time(text, 9.97), "10 s");
    ck_assert_str_eq(cnn_format_time(text, 59.6), "1 min 00 s");
    ck_assert_str_eq(cnn_format_time(text, 200), "3 min 20 s");
    ck_assert_str_eq(cnn_format_time(text, 7500), "2 h 05 min");
    ck_assert_str_eq(cnn_format_time(text, (double)NAN), "277777 h 46 min");
    ck_assert_str_eq(cnn_format_bytes(text, 999), "999 bytes");
    ck_assert_str_eq(cnn_format_bytes(text, 1880000), "1.9 MB");
    ck_assert_str_eq(cnn_format_bytes(text, 999999), "1.0 MB");
    ck_assert_str_eq(cnn_format_bytes(text, 29000000000), "29.0 GB");
    ck_assert_str_eq(cnn_format_count(text, 0), "0");
    ck_assert_str_eq(cnn_format_count(text, 1234567), "1,234,567");
    ck_assert_str_eq(cnn_format_count(text, -100000), "-100,000");
    ck_assert_str_eq(cnn_format_count(text, INT64_MIN), "-9,223,372,036,854,775,808");
}
END_TEST

/* Sends standard error to `fd` from now on. */
static void redirect_stderr(int fd)
{
    fflush(stderr);
    ck_assert_int_ge(dup2(fd, STDERR_FILENO), 0);
}

/* What was written to a redirected standard error so far. */
static char *written(int fd)
{
    static char text[4096];
    fflush(stderr);
    ssize_t bytes = read(fd, text, sizeof text - 1);
    text[bytes < 0 ? 0 : bytes] = '\0';
    return text;
}

/* What a terminal has shown once it shows `ending`: it hands out what it has in pieces. */
static char *shown_until(int fd, const char *ending)
{
    static char text[4096];
    size_t length = 0;
    text[0] = '\0';
    fflush(stderr);
    while (!strstr(text, ending) && length + 1 < sizeof text) {
        ssize_t bytes = read(fd, text + length, sizeof text - 1 - length);
        if (bytes <= 0)
            break;
        length += (size_t)bytes;
        text[length] = '\0';
    }
    return text;
}

static void wait_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static const cnn_tool tool = {.name = "tool"};

START_TEST(messages_are_one_line)
{
    cnn_cli cli = {.tool = &tool};
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    redirect_stderr(ends[1]);
    cnn_message_notice(&cli, "note %d", 1);
    cnn_message_detail(&cli, "not shown");
    cnn_message_warning(&cli, "odd");
    ck_assert(!cli.failed);
    cnn_message_error(&cli, "file 'a\nb\033[2J' is bad");
    ck_assert(cli.failed);
    cli.common.quiet = cli.common.verbose = true;
    cnn_message_notice(&cli, "not shown");
    cnn_message_detail(&cli, "detail");
    ck_assert_str_eq(written(ends[0]), "note 1\ntool: warning: odd\ntool: file 'a?b?[2J' is bad\ndetail\n");
}
END_TEST

START_TEST(progress_is_plain_lines_without_terminal)
{
    cnn_cli cli = {.tool = &tool}, quiet = {.tool = &tool, .common = {.quiet = true}};
    cnn_progress progress, silent;
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    redirect_stderr(ends[1]);
    cnn_progress_begin(&progress, &cli, "epoch 1", 1000, "images");
    cnn_progress_begin(&silent, &quiet, "quiet", 1000, "images");
    const double begun = cnn_clock();
    wait_ms(1000); /* before the first image, which is none of the rate */
    cnn_progress_update(&progress, 1, NULL);
    cnn_progress_update(&progress, 2, NULL);
    wait_ms(600);
    cnn_progress_update(&progress, 101, "loss 1");
    const double whole = (cnn_clock() - begun) * 1000 / 101;
    cnn_progress_update(&progress, 200, "loss 1"); /* too soon after the other */
    cnn_progress_update(&silent, 200, NULL);
    cnn_progress_end(&progress);
    double seconds;
    char *text = written(ends[0]);
    ck_assert_int_eq(sscanf(text, "epoch 1: about %lf s in all, ", &seconds), 1);
    ck_assert_msg(seconds >= 7 && seconds < whole, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, " images/s\n"));
    ck_assert_ptr_eq(strchr(text, '\n') + 1, text + strlen(text));
}
END_TEST

START_TEST(progress_is_a_bar_on_a_terminal)
{
    cnn_cli cli = {.tool = &tool};
    cnn_progress progress;
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0)
        return; /* no pseudo-terminals on this machine */
    int line = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    ck_assert_int_ge(line, 0);
    const struct winsize size = {.ws_row = 24, .ws_col = 60};
    ck_assert_int_eq(ioctl(line, TIOCSWINSZ, &size), 0);
    redirect_stderr(line);
    cnn_progress_begin(&progress, &cli, "epoch 1", 1000, "images");
    wait_ms(150);
    cnn_progress_update(&progress, 500, "loss 0.1234567890123456789");
    ck_assert(cli.bar);
    cnn_message_notice(&cli, "saved");
    ck_assert(!cli.bar);
    char *text = shown_until(terminal, "saved\r\n"), *bar = strstr(text, "\r\033[Kepoch 1  [####");
    ck_assert_msg(bar == text, "%s", text);
    bar += strlen("\r\033[K");
    size_t length = strcspn(bar, "\r\n");
    ck_assert_str_eq(bar + length, "\r\033[Ksaved\r\n");
    ck_assert_uint_le(length, 59); /* one column stays free */
    ck_assert_msg(strstr(bar, "]   50 %  ") && strstr(bar, " s left"), "%s", bar);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli output");
    TCase *tests = tcase_create("output");
    tcase_add_test(tests, json_is_escaped_and_nested);
    tcase_add_loop_test(tests, json_numbers_read_back, 0, 9);
    tcase_add_test(tests, table_is_aligned);
    tcase_add_test(tests, units_read_well);
    tcase_add_test(tests, messages_are_one_line);
    tcase_add_test(tests, progress_is_plain_lines_without_terminal);
    tcase_add_test(tests, progress_is_a_bar_on_a_terminal);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
