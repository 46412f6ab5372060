/* Images drawn with characters, two rows of pixels in a line of text since a character is about twice as high as wide.
 *
 * On a terminal of many colours that reads UTF-8: the upper half block in the colour of the upper pixel on the colour
 * of the lower one. Else, without any colours: a character that is as dense as the two pixels are bright, a shade block
 * or, where UTF-8 is not read, ASCII. */
#include "infer/pictures.h"

#include "cli/style.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

enum { MOST_COLUMNS = 64, LINE_COLUMNS = 80, GAP = 2 };

static const char *const shades[] = {" ", "\u2591", "\u2592", "\u2593", "\u2588"};
static const char *const letters[] = {" ", ".", ":", "-", "=", "+", "*", "#", "%", "@"};

/* Images of one shape, shrunk by a whole number so that they fit the terminal. */
typedef struct gallery {
    const uint8_t *pixels; /* [count,H,W,C] */
    int height, width, channels;
    int step;          /* pixels of the image beside each other that make one here */
    int rows, columns; /* of an image here */
} gallery;

/* Mean of a channel over a block of the image; 0 below the last row. */
static int block_mean(const gallery *g, int image, int row, int column, int channel)
{
    int sum = 0, count = 0;
    for (int y = row * g->step; y < (row + 1) * g->step && y < g->height; y++)
        for (int x = column * g->step; x < (column + 1) * g->step && x < g->width; x++, count++)
            sum += g->pixels[(((size_t)image * (size_t)g->height + (size_t)y) * (size_t)g->width + (size_t)x) *
                                 (size_t)g->channels +
                             (size_t)channel];
    return count ? sum / count : 0;
}

/* 0 to 255 */
static int brightness(const gallery *g, int image, int row, int column)
{
    if (g->channels != 3)
        return block_mean(g, image, row, column, 0);
    return (77 * block_mean(g, image, row, column, 0) + 150 * block_mean(g, image, row, column, 1) +
            29 * block_mean(g, image, row, column, 2)) /
           256;
}

/* The nearest of xterm's 256 colours: 24 grays from 232 and black and white, or a cube of 6x6x6 from 16. */
static int colour_number(const gallery *g, int image, int row, int column)
{
    enum { CUBE = 16, GRAYS = 232, GRAY_COUNT = 24 };
    if (g->channels != 3) {
        int gray = (brightness(g, image, row, column) + 2) / 10; /* 8, 18, ... 238 */
        return gray == 0 ? CUBE : gray > GRAY_COUNT ? CUBE + 215 : GRAYS + gray - 1;
    }
    int number = 0;
    for (int channel = 0; channel < 3; channel++) {
        int value = block_mean(g, image, row, column, channel); /* 0, 95, 135, ... 255 */
        number = 6 * number + (value < 48 ? 0 : value < 115 ? 1 : (value - 35) / 40);
    }
    return CUBE + number;
}

static void draw_colours(const gallery *g, int image, int line)
{
    for (int x = 0; x < g->columns; x++)
        printf("\033[38;5;%dm\033[48;5;%dm\u2580", colour_number(g, image, 2 * line, x),
               colour_number(g, image, 2 * line + 1, x));
    fputs(cnn_style_on(stdout, CNN_STYLE_PLAIN), stdout);
}

static void draw_shades(const gallery *g, int image, int line, const char *const *ramp, int levels)
{
    for (int x = 0; x < g->columns; x++) {
        int mean = (brightness(g, image, 2 * line, x) + brightness(g, image, 2 * line + 1, x)) / 2;
        fputs(ramp[mean * levels / 256], stdout);
    }
}

/* Draws images first..last-1 side by side. */
static void draw_row(const gallery *g, int first, int last, bool unicode)
{
    bool colours = unicode && *cnn_style_on(stdout, CNN_STYLE_PLAIN);
    for (int line = 0; line < (g->rows + 1) / 2; line++) {
        for (int image = first; image < last; image++) {
            if (image > first)
                printf("%*s", GAP, "");
            if (colours)
                draw_colours(g, image, line);
            else if (unicode)
                draw_shades(g, image, line, shades, sizeof shades / sizeof *shades);
            else
                draw_shades(g, image, line, letters, sizeof letters / sizeof *letters);
        }
        putchar('\n');
    }
}

void infer_show(const infer_run *run, const uint8_t *pixels, int count)
{
    gallery g = {.pixels = pixels, .height = run->input.h, .width = run->input.w, .channels = run->input.c};
    g.step = (g.width + MOST_COLUMNS - 1) / MOST_COLUMNS;
    g.rows = (g.height + g.step - 1) / g.step;
    g.columns = (g.width + g.step - 1) / g.step;
    int in_line = (LINE_COLUMNS + GAP) / (g.columns + GAP);
    setlocale(LC_CTYPE, "");
    bool unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    for (int first = 0; first < count; first += in_line)
        draw_row(&g, first, first + in_line < count ? first + in_line : count, unicode);
}
