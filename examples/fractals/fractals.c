/* fractals: draw the Julia set of z -> z*z + c, with c = Q + 0.57i, as a binary PPM.
 *
 * Build: cc -O2 -o fractals fractals.c -lm
 *
 * Exit status: 0 the picture is written, 1 it could not be written, 2 an option is wrong.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define C_IMAGINARY 0.57 /* from 0.1 to 0.3, Q then crosses the edge of the Mandelbrot set */
#define HALF_WIDTH 1.4   /* the picture shows -1.4 to 1.4 on both axes */
#define ESCAPE 256.0     /* far beyond the needed 2: the smooth colours get no visible steps */
#define SAMPLES 2        /* every pixel is the mean of 2 x 2 points */
#define MAX_SIDE 16384
#define MAX_ITERATIONS 100000000

enum { OK = 0, IO_ERROR = 1, BAD_OPTION = 2 };

struct options {
    double q;
    long side;
    long iterations;
    const char *output;
};

struct colour {
    double red, green, blue;
};

static const char USAGE[] =
    "usage: fractals [-q Q] [-d D] [-m M] -o FILE\n"
    "Draw the Julia set of z*z + c, with c = Q + 0.57i, as a binary PPM (P6).\n"
    "  -q Q     real part of c, -2 to 2 (default 0.26)\n"
    "  -d D     side of the square picture in pixels, 1 to 16384 (default 512)\n"
    "  -m M     iterations after which a point counts as inside (default 1000)\n"
    "  -o FILE  the picture; it appears under this name when it is complete\n"
    "  -h       show this text\n";

/* ---- options ---- */

static int read_real(const char *text, double low, double high, double *value)
{
    char *end;

    errno = 0;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && *value >= low && *value <= high;
}

static int read_count(const char *text, long high, long *value)
{
    char *end;

    errno = 0;
    *value = strtol(text, &end, 10);
    return end != text && *end == '\0' && errno == 0 && *value >= 1 && *value <= high;
}

static void bad_option(const char *problem, const char *value)
{
    fprintf(stderr, "fractals: %s '%s' (fractals -h shows the options)\n", problem, value);
    exit(BAD_OPTION);
}

static void set_option(struct options *options, int letter)
{
    switch (letter) {
    case 'q':
        if (!read_real(optarg, -2.0, 2.0, &options->q))
            bad_option("-q wants a number from -2 to 2, not", optarg);
        break;
    case 'd':
        if (!read_count(optarg, MAX_SIDE, &options->side))
            bad_option("-d wants a whole number from 1 to 16384, not", optarg);
        break;
    case 'm':
        if (!read_count(optarg, MAX_ITERATIONS, &options->iterations))
            bad_option("-m wants a whole number from 1 to 100000000, not", optarg);
        break;
    case 'o':
        if (*optarg == '\0')
            bad_option("-o wants the name of a file, not", optarg);
        options->output = optarg;
        break;
    case 'h':
        fputs(USAGE, stdout);
        exit(OK);
    default: {
        char name[] = {'-', (char)optopt, '\0'};
        bad_option(letter == ':' ? "a value is missing after" : "there is no option", name);
    }
    }
}

static struct options read_options(int argc, char **argv)
{
    struct options options = {0.26, 512, 1000, NULL};
    int letter;

    while ((letter = getopt(argc, argv, ":q:d:m:o:h")) != -1)
        set_option(&options, letter);
    if (optind < argc)
        bad_option("only options are understood, not", argv[optind]);
    if (options.output == NULL)
        bad_option("the output file is missing: give", "-o FILE");
    return options;
}

/* ---- the picture ---- */

/* How slowly a point escapes: iterations with a smooth fraction, or -1 if it never does. */
static double escape_time(double x, double y, double q, long iterations)
{
    for (long n = 0; n < iterations; n++) {
        double xx = x * x, yy = y * y;

        if (xx + yy > ESCAPE * ESCAPE)
            return (double)n + 1.0 - log2(log(xx + yy) / (2.0 * log(ESCAPE)));
        y = 2.0 * x * y + C_IMAGINARY;
        x = xx - yy + q;
    }
    return -1.0;
}

/* Night far outside, light at the rim, fire close to the set; points inside are almost black. */
static struct colour colour_of(double time)
{
    static const struct colour inside = {6, 6, 14};
    static const struct colour stops[] = {
        {8, 12, 34},     {24, 46, 98},   {38, 104, 148}, {110, 186, 178},
        {248, 236, 196}, {240, 166, 92}, {188, 72, 80},  {84, 32, 88},
    };
    const int count = (int)(sizeof stops / sizeof stops[0]);

    if (time < 0.0)
        return inside;

    /* The corners of the picture escape at 3. The logarithm narrows the wide outer bands; behind
       the last stop the colours come round again. */
    double place = fmod(2.3 * log1p(fmax(time - 3.0, 0.0)), count);
    int from = (int)place % count, to = (from + 1) % count;
    double part = place - floor(place);

    return (struct colour){
        stops[from].red + part * (stops[to].red - stops[from].red),
        stops[from].green + part * (stops[to].green - stops[from].green),
        stops[from].blue + part * (stops[to].blue - stops[from].blue),
    };
}

/* The coordinate of a sample: exactly opposite in sign for opposite pixels. */
static double coordinate(long sample, long samples)
{
    return HALF_WIDTH * (double)(2 * sample + 1 - samples) / (double)samples;
}

static void draw_row(const struct options *options, long row, unsigned char *pixels)
{
    const long samples = options->side * SAMPLES;

    for (long column = 0; column < options->side; column++) {
        struct colour sum = {0, 0, 0};

        for (int k = 0; k < SAMPLES * SAMPLES; k++) {
            double x = coordinate(column * SAMPLES + k % SAMPLES, samples);
            double y = -coordinate(row * SAMPLES + k / SAMPLES, samples);
            struct colour c = colour_of(escape_time(x, y, options->q, options->iterations));

            sum.red += c.red;
            sum.green += c.green;
            sum.blue += c.blue;
        }
        *pixels++ = (unsigned char)lround(sum.red / (SAMPLES * SAMPLES));
        *pixels++ = (unsigned char)lround(sum.green / (SAMPLES * SAMPLES));
        *pixels++ = (unsigned char)lround(sum.blue / (SAMPLES * SAMPLES));
    }
}

static int draw(const struct options *options, FILE *file, unsigned char *pixels)
{
    const size_t bytes = 3 * (size_t)options->side;

    if (fprintf(file, "P6\n%ld %ld\n255\n", options->side, options->side) < 0)
        return 0;
    for (long row = 0; row < options->side; row++) {
        draw_row(options, row, pixels);
        if (fwrite(pixels, 1, bytes, file) != bytes)
            return 0;
    }
    return 1;
}

/* ---- files ---- */

static int io_error(const char *what, const char *name)
{
    fprintf(stderr, "fractals: cannot %s %s: %s\n", what, name, strerror(errno));
    return IO_ERROR;
}

/* Draw into `part`, and give it its name once all of it is on the disk. */
static int write_picture(const struct options *options, const char *part, unsigned char *pixels)
{
    FILE *file = fopen(part, "wb");

    if (file == NULL)
        return io_error("create", part);
    int drawn = draw(options, file, pixels), problem = errno;
    if (fclose(file) != 0 && drawn) {
        drawn = 0;
        problem = errno;
    }
    if (!drawn) {
        remove(part);
        errno = problem;
        return io_error("write", part);
    }
    if (rename(part, options->output) != 0) {
        problem = errno;
        remove(part);
        errno = problem;
        return io_error("write", options->output);
    }
    return OK;
}

int main(int argc, char **argv)
{
    struct options options = read_options(argc, argv);
    size_t length = strlen(options.output) + sizeof ".part";
    char *part = malloc(length);
    unsigned char *pixels = malloc(3 * (size_t)options.side);
    int status;

    if (part == NULL || pixels == NULL) {
        status = io_error("draw", options.output);
    } else {
        snprintf(part, length, "%s.part", options.output);
        status = write_picture(&options, part, pixels);
    }
    free(pixels);
    free(part);
    return status;
}
