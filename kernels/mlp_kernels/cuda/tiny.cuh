// The parts of tiny.cu: tables in shared memory, products of a few rows, and what ends them.
#pragma once
#include <activations.cuh>
#include <elements.cuh>
#include <philox.cuh>
#include <reduce.cuh>

constexpr int THREADS = 256;
constexpr int MOST_ROWS = 8;  // of the batch, taken through the network at a time
constexpr int TILE = 32;      // rows and columns of a part of dW
constexpr int DEPTH = 64;     // rows of the batch in shared memory, for such a part
constexpr int MOST_LAYERS = 8;
constexpr int FEWEST_LANES = 8;  // of a product's columns: so at most 32 threads share a sum

// Columns of the table of layers (tiny.py): sizes; first elements in the flat parameters (W, b) and
// in the tape (input, output, what the derivative needs, delta); the activation's number, which is
// its place in activations.ELEMENTWISE, or SOFTMAX; dropout's threshold, 0 for none; how many parts
// the gradients of the layers before it have.
enum Column {
    INPUTS, OUTPUTS, W_START, B_START, X_START, A_START, SAVED_START, DELTA_START, CODE, DROP,
    FIRST_PART, COLUMNS
};
// Places in the array of settings; after them 1 / (1 - rate) of each layer's dropout.
enum Setting { PARAMETER, L1, L2, WEIGHT_DECAY, MAX_NORM, OF_RULE, SCALES = OF_RULE + 6 };

constexpr int SOFTMAX = 11;

// --- activations by number ----------------------------------------------------------------------

#define EACH_ACTIVATION(CASE)                                                               \
    CASE(0, Identity) CASE(1, Relu) CASE(2, LeakyRelu) CASE(3, Elu) CASE(4, Selu)           \
    CASE(5, Gelu) CASE(6, GeluTanh) CASE(7, Silu) CASE(8, Sigmoid) CASE(9, Tanh)            \
    CASE(10, Softplus)

// g(z), and in `kept` what the derivative needs.
template <class C>
__device__ __forceinline__ C activate(int code, C z, C& kept) {
    switch (code) {
#define CASE(number, Activation)                        \
    case number: {                                      \
        const C a = Activation::forward(z);             \
        kept = Activation::SAVES_Z ? z : a;             \
        return a;                                       \
    }
        EACH_ACTIVATION(CASE)
#undef CASE
    }
    return kept = z;
}

template <class C>
__device__ __forceinline__ C slope(int code, C kept) {
    switch (code) {
#define CASE(number, Activation) \
    case number: return Activation::derivative(kept);
        EACH_ACTIVATION(CASE)
#undef CASE
    }
    return 1;
}

// --- products of a few rows ---------------------------------------------------------------------
// Rows are in shared memory with the numbers of one column together: element (r, k) at k * R + r.
// Who computes what, and hence the order of a sum, depends on the layer's sizes alone.

// A factor of a product, as tensor cores or plain units would take it.
template <class C, class T>
__device__ __forceinline__ C operand(T x) {
#if TF32
    return __uint_as_float(to_tf32(x));
#else
    return widen(x);
#endif
}

// The next power of two, from FEWEST_LANES to THREADS.
__device__ __forceinline__ int lanes_of(int width) {
    int lanes = FEWEST_LANES;
    while (lanes < width && lanes < THREADS) lanes *= 2;
    return lanes;
}

// x = the N neighbours at `from`, which begin at a multiple of 16 bytes if they are so many.
template <int N, class C>
__device__ __forceinline__ void load_some(const C* from, C (&x)[N]) {
    constexpr int n = N % pack_size<C>() == 0 ? pack_size<C>() : 1;
#pragma unroll
    for (int i = 0; i < N; i += n) {
        const auto pack = load<n>(from + i);
#pragma unroll
        for (int j = 0; j < n; ++j) x[i + j] = pack.at[j];
    }
}

// partial (R, THREADS) = parts of x W + bias for `lanes` columns of W (K, columns) from the first
// on: the thread of lane l and group g sums over k = g, g + groups, ...
template <int R, class C, class T>
__device__ __forceinline__ void multiply_rows(const C* x, const T* W, const C* bias, int K,
                                              int columns, int first, int lanes, C* partial) {
    const int column = first + threadIdx.x % lanes, groups = THREADS / lanes;
    const int group = threadIdx.x / lanes;
    C sums[R] = {};
    if (column < columns) {
        const C start = group == 0 ? bias[column] : C(0);
#pragma unroll
        for (int r = 0; r < R; ++r) sums[r] = start;
        // Many loads at a time: the weights come from afar, and few threads wait for them.
#pragma unroll 16
        for (int k = group; k < K; k += groups) {
            const C w = operand<C>(W[k * columns + column]);
            C of_rows[R];
            load_some(x + k * R, of_rows);
#pragma unroll
            for (int r = 0; r < R; ++r) sums[r] += of_rows[r] * w;
        }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) partial[r * THREADS + threadIdx.x] = sums[r];
}

// Of row r and lane l: the groups' parts in their order.
template <class C>
__device__ __forceinline__ C sum_groups(const C* partial, int r, int lane, int lanes) {
    C sum = 0;
    for (int at = lane; at < THREADS; at += lanes) sum += partial[r * THREADS + at];
    return sum;
}

// out (I, R) = delta W^T of W (I, O): neighbouring lanes share a few rows of W.
template <int R, class C, class T>
__device__ __forceinline__ void multiply_back(const C* delta, const T* W, int I, int O, C* out) {
    constexpr int FEW = 4;
    const int lanes = min(lanes_of(O), 32), groups = THREADS / lanes;
    const int lane = threadIdx.x % lanes, group = threadIdx.x / lanes;
    for (int base = 0; base < I; base += FEW * groups) {  // all lanes of a warp come along
        C sums[FEW][R] = {};
        for (int o = lane; o < O; o += lanes) {
            C w[FEW], of_rows[R];
#pragma unroll
            for (int f = 0; f < FEW; ++f) {
                const int i = base + f * groups + group;
                w[f] = i < I ? operand<C>(W[i * O + o]) : C(0);
            }
            load_some(delta + o * R, of_rows);
#pragma unroll
            for (int f = 0; f < FEW; ++f) {
#pragma unroll
                for (int r = 0; r < R; ++r) sums[f][r] += of_rows[r] * w[f];
            }
        }
#pragma unroll
        for (int f = 0; f < FEW; ++f) {
            const int i = base + f * groups + group;
#pragma unroll
            for (int r = 0; r < R; ++r) {
                for (int step = lanes / 2; step > 0; step /= 2) {
                    sums[f][r] += __shfl_xor_sync(0xFFFFFFFFu, sums[f][r], step);
                }
                if (lane == 0 && i < I) out[i * R + r] = sums[f][r];
            }
        }
    }
}
