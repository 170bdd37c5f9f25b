/* VGG-16 up to conv5_3 in 8-bit integers, for x86 CPUs with AVX-512 VNNI or AVX-VNNI.

   Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308): a window of 4x4 cells gives a tile of
   2x2 cells by 16 products a channel, where a convolution takes 36. Windows are transformed, multiplied and transformed
   back some dozens at a time, so that what comes in between stays in the CPU's own cache. A tile is what a pool takes the
   largest of: pools cost nothing.

   Maps are channels-last, with a border of zeros a cell wide, and room for another cell behind odd sizes.
   `int8_backbone.py` says what the arrays hold. */

#include <immintrin.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>

enum {
    POINTS = 16,      /* of a window */
    BLOCK = 64,       /* channels that are computed together */
    ROWS = 6,         /* of a product, held in registers with one or more vectors of those */
    TILES = 54,       /* at once; ROWS divides it. Their windows and sums fill half a megabyte */
    WIDEST = 512,     /* channels */
    LINE = 12,        /* bytes of a kernel's line of three pixels, and three of padding */
    COLOURS = 3,
    SPINS = 1000,     /* of a thread that waits for the others: some 20 microseconds */
};

/* ---- Vectors: 32 of 64 bytes, or 16 of 32; both compute the same ---- */

#ifdef __AVX512BW__
typedef __m512i integers;
typedef __m512 floats;
#define WITH(operation) _mm512_##operation
#define add_products WITH(dpbusd_epi32)
enum { LANES = 16, PARTS = 4 }; /* numbers of 4 bytes; vectors that ROWS leave registers for */

static inline integers load(const void *from) { return _mm512_loadu_si512(from); }
static inline void keep(void *to, integers all) { _mm512_storeu_si512(to, all); }
static inline integers flip(integers a, integers b) { return _mm512_xor_si512(a, b); }
static inline integers widened(const uint8_t *cells) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)cells));
}
static inline void keep_bytes(uint8_t *to, integers all) {
    _mm_storeu_si128((__m128i *)to, _mm512_cvtusepi32_epi8(all));
}
#else
typedef __m256i integers;
typedef __m256 floats;
#define WITH(operation) _mm256_##operation
#ifdef __AVXVNNI__
#define add_products WITH(dpbusd_avx_epi32)
#else
#define add_products WITH(dpbusd_epi32)
#endif
enum { LANES = 8, PARTS = 2 };

static inline integers load(const void *from) { return _mm256_loadu_si256(from); }
static inline void keep(void *to, integers all) { _mm256_storeu_si256(to, all); }
static inline integers flip(integers a, integers b) { return _mm256_xor_si256(a, b); }
static inline integers widened(const uint8_t *cells) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)cells));
}
static inline void keep_bytes(uint8_t *to, integers all) {
    __m128i shorts = _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(shorts, shorts));
}
#endif

typedef struct {
    int32_t height, width, channels, outputs;
    int32_t pooled_height, pooled_width; /* 0 where there is no pool behind it */
    const int16_t *to_bytes;
    const int8_t *kernels;
    const int32_t *starts;
    const float *scales, *biases;
    uint8_t *whole; /* the map before its pool, without a border, for who reads it; or NULL */
} convolution;

typedef struct {
    uint8_t windows[POINTS * TILES * WIDEST];
    int32_t sums[POINTS * TILES * BLOCK];
} workspace;

/* A map that is written: cells that do not exist are left out. */
typedef struct {
    uint8_t *first; /* cell; NULL if it is not wanted */
    long row;       /* bytes */
    int height, width;
} destination;

static int across(int width) { return (width + 1) / 2; }

static long bordered(int width) { return 2 * across(width) + 2; }

long workspace_bytes(void) { return sizeof(workspace) + 64; }

/* ---- Products ---- */

/* Bytes (ROWS, depth), times PARTS vectors of kernels (depth / 4, BLOCK, 4), to as many of sums (ROWS, BLOCK). */
static inline void six_rows(const uint8_t *bytes, int depth, const int8_t *kernels, const int32_t *starts, int32_t *to) {
    integers sums[ROWS][PARTS];
#pragma GCC unroll 6
    for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; part++)
            sums[row][part] = load(starts + LANES * part);
    for (int place = 0; place < depth; place += 4, kernels += 4 * BLOCK) {
        integers kernel[PARTS];
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; part++)
            kernel[part] = load(kernels + 4 * LANES * part);
#pragma GCC unroll 6
        for (int row = 0; row < ROWS; row++) {
            int32_t four;
            memcpy(&four, bytes + row * depth + place, sizeof four);
            integers cells = WITH(set1_epi32)(four);
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; part++)
                sums[row][part] = add_products(sums[row][part], cells, kernel[part]);
        }
    }
#pragma GCC unroll 6
    for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; part++)
            keep(to + row * BLOCK + LANES * part, sums[row][part]);
}

/* Rows up to the next multiple of ROWS are computed, too, of whatever stands there. */
static void multiply(
    const uint8_t *bytes, int rows, int depth, const int8_t *kernels, const int32_t *starts, int32_t *to) {
    for (int channel = 0; channel < BLOCK; channel += PARTS * LANES)
        for (int row = 0; row < rows; row += ROWS)
            six_rows(bytes + row * depth, depth, kernels + 4 * channel, starts + channel, to + row * BLOCK + channel);
}

/* ---- Transforms ---- */

/* As many channels of a window as a vector has shorts, at the 16 points. The matrix is the paper's equation 7. */
static inline void at_points(const uint8_t *window, long row, int channels, integers points[4][4]) {
    integers lines[4][4];
#pragma GCC unroll 4
    for (int x = 0; x < 4; x++) {
        integers a = widened(window + x * channels), b = widened(window + row + x * channels);
        integers c = widened(window + 2 * row + x * channels), d = widened(window + 3 * row + x * channels);
        lines[0][x] = WITH(sub_epi16)(a, c);
        lines[1][x] = WITH(add_epi16)(b, c);
        lines[2][x] = WITH(sub_epi16)(c, b);
        lines[3][x] = WITH(sub_epi16)(b, d);
    }
#pragma GCC unroll 4
    for (int y = 0; y < 4; y++) {
        points[y][0] = WITH(sub_epi16)(lines[y][0], lines[y][2]);
        points[y][1] = WITH(add_epi16)(lines[y][1], lines[y][2]);
        points[y][2] = WITH(sub_epi16)(lines[y][2], lines[y][1]);
        points[y][3] = WITH(sub_epi16)(lines[y][1], lines[y][3]);
    }
}

/* Windows of some tiles to (POINTS, TILES, channels): bytes with an offset of 128. In each 64 channels, those of the
   halves alternate by eight, as vectors are packed; kernels are in the same order. */
static void transform_windows(const convolution *layer, const uint8_t *map, int first, int count, uint8_t *to) {
    const int channels = layer->channels, columns = across(layer->width);
    const long row = bordered(layer->width) * channels;
    const integers offset = WITH(set1_epi8)((char)128);
    for (int tile = 0; tile < count; tile++) {
        const int y = (first + tile) / columns, x = (first + tile) % columns;
        const uint8_t *window = map + 2 * y * row + 2L * x * channels;
        for (int channel = 0; channel < channels; channel += 64)
            for (int part = 0; part < 32; part += 2 * LANES) {
                integers left[4][4], right[4][4];
                at_points(window + channel + part, row, channels, left);
                at_points(window + channel + 32 + part, row, channels, right);
#pragma GCC unroll 16
                for (int point = 0; point < POINTS; point++) {
                    const int16_t *factors = layer->to_bytes + point * channels + channel + part;
                    integers low = WITH(mulhrs_epi16)(left[point / 4][point % 4], load(factors));
                    integers high = WITH(mulhrs_epi16)(right[point / 4][point % 4], load(factors + 32));
                    integers bytes = flip(WITH(packs_epi16)(low, high), offset);
                    keep(to + (point * TILES + tile) * channels + channel + 2 * part, bytes);
                }
            }
    }
}

/* A vector of channels of a cell, which are not below zero. */
static inline void store(const destination *map, int y, int x, int channels, int channel, floats cell) {
    if (map->first && y < map->height && x < map->width)
        keep_bytes(map->first + y * map->row + (long)x * channels + channel, WITH(cvtps_epi32)(cell));
}

/* Sums (POINTS, TILES, BLOCK) to the cells of some tiles, with bias and ReLU; and the largest of each tile. */
static void transform_tiles(
    const convolution *layer, int first, int count, int block, const int32_t *sums, const destination maps[2],
    const destination *pooled) {
    const int columns = across(layer->width), outputs = layer->outputs;
    const floats zero = WITH(setzero_ps)();
    for (int part = 0; part < BLOCK; part += LANES) {
        const int channel = block * BLOCK + part;
        const float *scales = layer->scales + (long)block * POINTS * BLOCK + part;
        const floats bias = WITH(loadu_ps)(layer->biases + channel);
        floats scale[POINTS];
#pragma GCC unroll 16
        for (int point = 0; point < POINTS; point++)
            scale[point] = WITH(loadu_ps)(scales + point * BLOCK);
        for (int tile = 0; tile < count; tile++) {
            const int y = 2 * ((first + tile) / columns), x = 2 * ((first + tile) % columns);
            const int32_t *from = sums + tile * BLOCK + part;
            floats at[POINTS], lines[2][4], cells[2][2];
#pragma GCC unroll 16
            for (int point = 0; point < POINTS; point++)
                at[point] = WITH(cvtepi32_ps)(load(from + point * TILES * BLOCK));
#pragma GCC unroll 4
            for (int column = 0; column < 4; column++) {
                floats b = WITH(mul_ps)(at[4 + column], scale[4 + column]);
                floats c = WITH(mul_ps)(at[8 + column], scale[8 + column]);
                lines[0][column] = WITH(fmadd_ps)(at[column], scale[column], WITH(add_ps)(b, c));
                lines[1][column] = WITH(fnmadd_ps)(at[12 + column], scale[12 + column], WITH(sub_ps)(b, c));
            }
#pragma GCC unroll 2
            for (int line = 0; line < 2; line++) {
                const floats *l = lines[line];
                floats left = WITH(add_ps)(WITH(add_ps)(l[0], l[1]), WITH(add_ps)(l[2], bias));
                floats right = WITH(add_ps)(WITH(sub_ps)(l[1], l[2]), WITH(sub_ps)(bias, l[3]));
                cells[line][0] = WITH(max_ps)(left, zero);
                cells[line][1] = WITH(max_ps)(right, zero);
            }
            /* Behind an odd size there is nothing, which is no more than any cell. */
            if (x + 1 >= layer->width)
                cells[0][1] = cells[1][1] = zero;
            if (y + 1 >= layer->height)
                cells[1][0] = cells[1][1] = zero;
            for (int which = 0; which < 2; which++) {
                store(maps + which, y, x, outputs, channel, cells[0][0]);
                store(maps + which, y, x + 1, outputs, channel, cells[0][1]);
                store(maps + which, y + 1, x, outputs, channel, cells[1][0]);
                store(maps + which, y + 1, x + 1, outputs, channel, cells[1][1]);
            }
            const floats largest = WITH(max_ps)(
                WITH(max_ps)(cells[0][0], cells[0][1]), WITH(max_ps)(cells[1][0], cells[1][1]));
            store(pooled, y / 2, x / 2, outputs, channel, largest);
        }
    }
}

/* ---- Layers ---- */

/* The first, of an image (height, width, 3), some pixels of a row: nine are too few bytes for a transform to pay. */
static void convolve_image(
    const convolution *layer, const uint8_t *image, const uint8_t *padding, int y, int x, int count,
    const destination *map, workspace *work) {
    const int width = layer->width;
    uint8_t lines[3][(TILES + 2) * COLOURS + COLOURS] = {0};
    for (int line = 0; line < 3; line++)
        for (int column = 0; column < count + 2; column++) {
            const int from_y = y + line - 1, from_x = x + column - 1;
            const int inside = 0 <= from_y && from_y < layer->height && 0 <= from_x && from_x < width;
            const uint8_t *pixel = inside ? image + ((long)from_y * width + from_x) * COLOURS : padding;
            memcpy(lines[line] + column * COLOURS, pixel, COLOURS);
        }
    for (int column = 0; column < count; column++)
        for (int line = 0; line < 3; line++)
            memcpy(work->windows + (3 * column + line) * LINE, lines[line] + column * COLOURS, LINE);
    for (int block = 0; block < layer->outputs / BLOCK; block++) {
        multiply(
            work->windows, count, 3 * LINE, layer->kernels + (long)block * 3 * LINE * BLOCK,
            layer->starts + block * BLOCK, work->sums);
        for (int column = 0; column < count; column++)
            for (int part = 0; part < BLOCK; part += LANES) {
                const int channel = block * BLOCK + part;
                floats sum = WITH(cvtepi32_ps)(load(work->sums + column * BLOCK + part));
                sum = WITH(fmadd_ps)(
                    sum, WITH(loadu_ps)(layer->scales + channel), WITH(loadu_ps)(layer->biases + channel));
                store(map, y, x + column, layer->outputs, channel, WITH(max_ps)(sum, WITH(setzero_ps)()));
            }
    }
}

static void convolve(
    const convolution *layer, const uint8_t *map, int first, int count, const destination maps[2],
    const destination *pooled, workspace *work) {
    const int channels = layer->channels;
    transform_windows(layer, map, first, count, work->windows);
    for (int block = 0; block < layer->outputs / BLOCK; block++) {
        for (int point = 0; point < POINTS; point++) {
            const long which = (long)block * POINTS + point;
            multiply(
                work->windows + point * TILES * channels, count, channels,
                layer->kernels + which * channels * BLOCK, layer->starts + which * BLOCK,
                work->sums + point * TILES * BLOCK);
        }
        transform_tiles(layer, first, count, block, work->sums, maps, pooled);
    }
}

static destination with_border(uint8_t *map, int height, int width, int channels) {
    const long row = bordered(width) * channels;
    return (destination){map + row + channels, row, height, width};
}

static void clear_border(uint8_t *map, int height, int width, int channels) {
    const long row = bordered(width) * channels, rows = bordered(height);
    const long behind = (long)(width + 1) * channels;
    memset(map, 0, row);
    for (int y = 1; y <= height; y++) {
        memset(map + y * row, 0, channels);
        memset(map + y * row + behind, 0, row - behind);
    }
    memset(map + (height + 1) * row, 0, (rows - height - 1) * row);
}

/* ---- Threads ---- */

/* Until all parts of a layer are done, by whomever. */
static void wait_for(const int32_t *done, int parts) {
    for (int spins = 0; __atomic_load_n(done, __ATOMIC_ACQUIRE) < parts; spins++) {
        if (spins < SPINS)
            _mm_pause();
        else
            sched_yield(); /* another thread waits for this core */
    }
}

/* A share of the work on one image. Any number of threads may call it at once; each comes back when the image is done,
   and one that comes late finds less to do, or nothing.

   layers: the first is of the image, and neither pooled nor kept; each other reads what the one before it wrote.
   image: (height, width, 3).
   padding: of the image: one pixel.
   maps: two, with borders, for what layers write by turns; each has room for the largest.
   state: zeros, two for each layer, which the threads share: parts begun, and parts done.
   threads: as many as are to come.
   work: workspace_bytes(), this thread's own. */
void run_share(
    const convolution *layers, int count, const uint8_t *image, const uint8_t *padding, uint8_t *const maps[2],
    int32_t *state, int threads, uint8_t *work) {
    workspace *own = (workspace *)(((uintptr_t)work + 63) / 64 * 64);
    for (int number = 0; number < count; number++) {
        const convolution *layer = layers + number;
        const int pools = layer->pooled_height > 0, outputs = layer->outputs;
        const int height = pools ? layer->pooled_height : layer->height;
        const int width = pools ? layer->pooled_width : layer->width;
        const int last = number + 1 == count;
        uint8_t *to = maps[number % 2];
        const destination none = {0}, next = last ? none : with_border(to, height, width, outputs);
        const destination whole = {layer->whole, (long)layer->width * outputs, layer->height, layer->width};
        const destination both[2] = {pools ? none : next, whole}, pooled = pools ? next : none;

        /* As many parts for each thread, of rows as many as are computed together; an image's are parts of its lines. */
        const int tiles = across(layer->height) * across(layer->width), segments = (layer->width + TILES - 1) / TILES;
        const int most = threads * TILES, even = threads * ((tiles + most - 1) / most);
        const int size = ((tiles + even - 1) / even + ROWS - 1) / ROWS * ROWS;
        const int parts = number ? (tiles + size - 1) / size : layer->height * segments;
        int32_t *begun = state + 2 * number, *done = begun + 1;
        for (int part; (part = __atomic_fetch_add(begun, 1, __ATOMIC_RELAXED)) < parts;) {
            if (part == 0 && !last)
                clear_border(to, height, width, outputs);
            if (number) {
                const int first = part * size, these = tiles - first < size ? tiles - first : size;
                convolve(layer, maps[(number + 1) % 2], first, these, both, &pooled, own);
            } else {
                const int x = part % segments * TILES, these = layer->width - x < TILES ? layer->width - x : TILES;
                convolve_image(layer, image, padding, part / segments, x, these, &next, own);
            }
            __atomic_add_fetch(done, 1, __ATOMIC_RELEASE);
        }
        wait_for(done, parts);
    }
}
