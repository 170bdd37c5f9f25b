// What torch's own operators do in many passes over a GPU's memory, in one. Compiled when first used, by nvrtc.py; FP16,
// BF16 or FP32 says what the network computes in. No header is included: where CUDA's are, nobody knows. The tests
// compile it for the CPU, with a type of their own.

// ---- Numbers of the network's type. Eight of FP16 or BF16, or four of FP32, are what a thread moves at once. ----

#if defined(FP32)
typedef float Number;
constexpr int WIDTH = 4;
__device__ inline float load(Number x) { return x; }
__device__ inline Number store(float x) { return x; }
__device__ inline unsigned larger(unsigned a, unsigned b) {
    asm("max.NaN.f32 %0, %0, %1;" : "+r"(a) : "r"(b));
    return a;
}
#elif defined(FP16)
typedef unsigned short Number;
constexpr int WIDTH = 8;
__device__ inline float load(Number x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x)); return y; }
__device__ inline Number store(float x) { Number y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x)); return y; }
__device__ inline unsigned larger(unsigned a, unsigned b) {
    asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
    return a;
}
#elif defined(BF16)
typedef unsigned short Number;
constexpr int WIDTH = 8;
__device__ inline float load(Number x) { return __uint_as_float((unsigned)x << 16); }
__device__ inline Number store(float x) { Number y; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x)); return y; }
__device__ inline unsigned larger(unsigned a, unsigned b) {
    asm("max.NaN.bf16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
    return a;
}
#endif

union Vector {
    uint4 whole;
    unsigned words[4];
    Number numbers[WIDTH];
};

__device__ inline bool finite(float x) { return fabsf(x) <= 3.402823466e38f; }

// ---- Max pooling, channels last. A thread computes a vector of channels of a cell. ----

struct Pooling {
    const Vector *input;  // (B, in_height, in_width, vectors)
    Vector *output;       // (B, out_height, out_width, vectors)
    int in_height, in_width, out_height, out_width, vectors, kernel, stride, padding;
};

extern "C" __global__ void max_pool(Pooling p) {
    int here = blockIdx.x * blockDim.x + threadIdx.x;
    if (here >= p.out_width * p.vectors) return;
    int column = here / p.vectors * p.stride - p.padding, row = blockIdx.y * p.stride - p.padding;
    const Vector *image = p.input + (long long)blockIdx.z * p.in_height * p.in_width * p.vectors + here % p.vectors;
    Vector best;
    bool any = false;
    for (int y = max(row, 0); y < min(row + p.kernel, p.in_height); ++y)
        for (int x = max(column, 0); x < min(column + p.kernel, p.in_width); ++x) {
            Vector other;
            other.whole = image[((long long)y * p.in_width + x) * p.vectors].whole;
            for (int i = 0; i < 4; ++i) best.words[i] = any ? larger(best.words[i], other.words[i]) : other.words[i];
            any = true;
        }
    long long cell = (long long)blockIdx.z * p.out_height + blockIdx.y;
    p.output[cell * p.out_width * p.vectors + here].whole = best.whole;
}

// ---- L2 norm over the channels of each cell, times a scale a channel (ParseNet). A warp computes a cell. ----

struct Norming {
    const Vector *input;  // (cells, vectors)
    Vector *output;
    const Vector *scale;  // (vectors)
    int cells, vectors;
};

extern "C" __global__ void channel_norm(Norming n) {
    int cell = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (cell >= n.cells) return;
    const Vector *input = n.input + (long long)cell * n.vectors;
    float sum = 0;
    for (int v = lane; v < n.vectors; v += 32) {
        Vector x;
        x.whole = input[v].whole;
        for (int i = 0; i < WIDTH; ++i) sum += load(x.numbers[i]) * load(x.numbers[i]);
    }
    for (int distance = 16; distance; distance /= 2) sum += __shfl_xor_sync(0xffffffff, sum, distance);
    float norm = sqrtf(sum) + 1e-10f;
    for (int v = lane; v < n.vectors; v += 32) {
        Vector x, scale;
        x.whole = input[v].whole;
        scale.whole = n.scale[v].whole;
        for (int i = 0; i < WIDTH; ++i) x.numbers[i] = store(load(x.numbers[i]) / norm * load(scale.numbers[i]));
        n.output[(long long)cell * n.vectors + v].whole = x.whole;
    }
}

// ---- From raw output to boxes (paper, section 2.2). ----

constexpr int MOST = 4096;  // candidates of an image
constexpr int ROW = 6;      // of what is found: corners, score, class id

typedef unsigned long long Key;  // a score's bits, which sort as the score does, and behind them what is best first

struct Selecting {
    const Number *locations;   // (B, num_boxes, 4)
    const Number *raw_scores;  // (B, num_boxes, num_columns)
    const float *defaults;     // (num_boxes, 4), centre-form
    const int *columns;        // (num_classes): those of the scores that are looked at
    Key *keys;                 // (B, MOST), by which the first kernel tells the second of the candidates
    float4 *boxes;             // (B, MOST), the second one's
    int *counts;               // (B, 2), zeros: candidates of each image; whether some number is none
    float *found;              // (B, 1 + after, ROW): a row of how many, and whether that is sure; then a row a box
    int num_boxes, num_columns, num_classes, background, softmax, agnostic, before, after;
    float score, iou, max_log_size, variances[4];
};

// A thread looks at the scores of a default box.
extern "C" __global__ void find_candidates(Selecting s) {
    int box = blockIdx.x * blockDim.x + threadIdx.x, image = blockIdx.y;
    if (box >= s.num_boxes) return;
    const Number *scores = s.raw_scores + ((long long)image * s.num_boxes + box) * s.num_columns;
    float top = load(scores[0]), sum = 0;
    bool wrong = false;
    for (int c = 0; c < s.num_columns; ++c) {
        float x = load(scores[c]);
        wrong |= !finite(x);
        top = fmaxf(top, x);
    }
    if (wrong) {
        s.counts[2 * image + 1] = 1;
        return;
    }
    if (s.softmax)
        for (int c = 0; c < s.num_columns; ++c) sum += expf(load(scores[c]) - top);
    for (int k = 0; k < s.num_classes; ++k) {
        float x = load(scores[s.columns[k]]);
        float score = s.softmax ? expf(x - top) / sum : 1 / (1 + expf(-x));
        if (!(score >= s.score)) continue;
        int place = atomicAdd(&s.counts[2 * image], 1);
        unsigned rank = s.agnostic ? (unsigned)box * s.num_classes + k : (unsigned)k * s.num_boxes + box;
        if (place < MOST) s.keys[(long long)image * MOST + place] = (Key)__float_as_uint(score) << 32 | ~rank;
    }
}

__device__ inline bool overlap(float4 a, float4 b, float iou) {
    float width = fmaxf(fminf(a.z, b.z) - fmaxf(a.x, b.x), 0), height = fmaxf(fminf(a.w, b.w) - fmaxf(a.y, b.y), 0);
    float intersection = width * height;
    float both = (a.z - a.x) * (a.w - a.y) + (b.z - b.x) * (b.w - b.y) - intersection;
    return intersection / fmaxf(both, 1.1754943508222875e-38f) > iou;
}

// A block sorts, decodes and suppresses the candidates of an image: greedy NMS as it is written.
extern "C" __global__ void suppress(Selecting s) {
    __shared__ Key keys[MOST];
    __shared__ unsigned short classes[MOST];
    __shared__ unsigned char alive[MOST];
    __shared__ int count, wrong;
    int image = blockIdx.x, first = threadIdx.x, step = blockDim.x;
    float *found = s.found + (long long)image * (1 + s.after) * ROW;
    if (first == 0) {
        count = s.counts[2 * image];
        wrong = count > MOST || s.counts[2 * image + 1];
        found[0] = found[1] = 0;
    }
    __syncthreads();
    if (wrong) return;

    int padded = 1;
    while (padded < count) padded *= 2;
    for (int i = first; i < padded; i += step) keys[i] = i < count ? s.keys[(long long)image * MOST + i] : 0;
    for (int size = 2; size <= padded; size *= 2)  // bitonic, falling
        for (int distance = size / 2; distance; distance /= 2) {
            __syncthreads();
            for (int i = first; i < padded; i += step) {
                int other = i ^ distance;
                if (other > i && (keys[i] < keys[other]) == !(i & size)) {
                    Key key = keys[i];
                    keys[i] = keys[other];
                    keys[other] = key;
                }
            }
        }
    __syncthreads();

    float4 *boxes = s.boxes + (long long)image * MOST;
    for (int i = first; i < count; i += step) {
        unsigned rank = ~(unsigned)keys[i];
        int box = s.agnostic ? rank / s.num_classes : rank % s.num_boxes;
        classes[i] = s.agnostic ? rank % s.num_classes : rank / s.num_boxes;
        alive[i] = 1;
        const Number *location = s.locations + ((long long)image * s.num_boxes + box) * 4;
        const float *by_default = s.defaults + (long long)box * 4;
        float offsets[4], centre[2], half[2];
        for (int k = 0; k < 4; ++k) {
            offsets[k] = load(location[k]) * s.variances[k];
            if (!finite(offsets[k])) wrong = 1;
        }
        for (int k = 0; k < 2; ++k) {
            centre[k] = by_default[k] + offsets[k] * by_default[2 + k];
            half[k] = by_default[2 + k] * expf(fminf(offsets[2 + k], s.max_log_size)) / 2;
        }
        boxes[i] = make_float4(
            __saturatef(centre[0] - half[0]), __saturatef(centre[1] - half[1]),
            __saturatef(centre[0] + half[0]), __saturatef(centre[1] + half[1]));
    }
    __syncthreads();
    if (wrong) return;
    if (count > s.before) {
        for (int i = first; i < count; i += step) {
            int better = 0;
            for (int j = 0; j < i; ++j) better += s.agnostic || classes[j] == classes[i];
            if (better >= s.before) alive[i] = 0;
        }
        __syncthreads();
    }

    int kept = 0;
    for (int i = 0; i < count && kept < s.after; ++i) {  // all threads take the same way through it
        if (!alive[i]) continue;
        float4 best = boxes[i];
        ++kept;
        if (first == 0) {
            float *row = found + kept * ROW;
            row[0] = best.x;
            row[1] = best.y;
            row[2] = best.z;
            row[3] = best.w;
            row[4] = __uint_as_float(keys[i] >> 32);
            row[5] = s.columns[classes[i]] - s.background;
        }
        for (int j = i + 1 + first; j < count; j += step)
            if (alive[j] && (s.agnostic || classes[j] == classes[i]) && overlap(best, boxes[j], s.iou)) alive[j] = 0;
        __syncthreads();
    }
    if (first == 0) {
        found[0] = kept;
        found[1] = 1;
    }
}
