// As much of CUDA as kernels.cu uses, on the CPU, block after block; numbers are float32, or with HALF
// float16.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __shared__ static

struct uint4 { unsigned x, y, z, w; };
struct float4 { float x, y, z, w; };
struct dim3 { int x, y, z; };
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static thread_local dim3 threadIdx;
static dim3 blockIdx, blockDim;
static std::unique_ptr<std::barrier<>> together;
static std::vector<float> exchanged;

static void __syncthreads() { together->arrive_and_wait(); }
static float __shfl_xor_sync(unsigned, float value, int distance) {
    exchanged[threadIdx.x] = value;
    __syncthreads();
    float other = exchanged[threadIdx.x ^ distance];
    __syncthreads();
    return other;
}
static int atomicAdd(int *where, int more) { return std::atomic_ref<int>(*where).fetch_add(more); }
static unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
static float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
static float __saturatef(float x) { return x > 0 ? std::min(x, 1.0f) : 0; }
using std::max, std::min;

#ifdef HALF
typedef unsigned short Number;
constexpr int WIDTH = 8;
static float load(Number x) { _Float16 y; memcpy(&y, &x, 2); return y; }
static Number store(float x) { _Float16 y = x; Number bits; memcpy(&bits, &y, 2); return bits; }
static Number larger_half(Number a, Number b) { return std::isnan(load(a)) || load(a) > load(b) ? a : b; }
static unsigned larger(unsigned a, unsigned b) { return larger_half(a >> 16, b >> 16) << 16 | larger_half(a, b); }
#else
typedef float Number;
constexpr int WIDTH = 4;
static float load(Number x) { return x; }
static Number store(float x) { return x; }
static unsigned larger(unsigned a, unsigned b) {
    float x = __uint_as_float(a), y = __uint_as_float(b);
    return std::isnan(x) || x > y ? a : b;
}
#endif

#include KERNELS

// Threads of a block that do not wait for each other may as well run one after another, which is much faster.
template <typename Work> static void run(int *grid, int threads, bool alone, Work work) {
    blockDim = {threads, 1, 1};
    exchanged.resize(threads);
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) {
                if (alone) {
                    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) work();
                    continue;
                }
                together = std::make_unique<std::barrier<>>(threads);
                std::vector<std::jthread> all;
                for (int t = 0; t < threads; ++t)
                    all.emplace_back([&, t] {
                        threadIdx = {t, 0, 0};
                        work();
                        together->arrive_and_drop();
                    });
            }
}

extern "C" {
void run_max_pool(int *grid, int threads, Pooling *p) { run(grid, threads, true, [&] { max_pool(*p); }); }
void run_channel_norm(int *grid, int threads, Norming *n) { run(grid, threads, false, [&] { channel_norm(*n); }); }
void run_find_candidates(int *grid, int threads, Selecting *s) { run(grid, threads, true, [&] { find_candidates(*s); }); }
void run_suppress(int *grid, int threads, Selecting *s) { run(grid, threads, false, [&] { suppress(*s); }); }
}
