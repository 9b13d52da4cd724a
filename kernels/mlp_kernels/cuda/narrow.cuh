// What the kernels of narrow networks share: a warp's rows and the weights in shared memory, their
// product with sums in registers, and activations chosen layer by layer.
//
// NUMBER: type of weights, activations and deltas. TENSOR: 1 for tensor cores, on which float is
// rounded to tf32. WIDTH: 64 or 128, at least that of every layer. ACTIVATIONS: those of the
// layers, separated by commas. BACK: 1 in the kernel of the way back.
#pragma once
#include "activations.cuh"
#include "elements.cuh"
#include "philox.cuh"

// A layer as narrow.py writes it down. Places are in numbers from the beginning of a buffer, and -1
// for what is not there. Activation and dropout are the layer's own on the way forward, and on the
// way back those of the layer below, whose results are its inputs.
struct Layer {
    long long inputs, outputs;
    long long activation;            // its place in ACTIVATIONS
    long long threshold, number;     // of the dropout, 0 for none; of the layer that drops
    double scale;
    long long weights, slot;         // among all weights, and in shared memory
    long long bias;                  // forward: among the parameters. Back: of its sums
    long long x, a, saved, delta;    // on the tape; back, the last two are of the layer below
    long long sums;                  // of its weights' gradients
};

constexpr bool SHORT = sizeof(NUMBER) == 2;
// Numbers from one row of activations or deltas in shared memory to the next, and from one of
// weights: so that what a warp reads at a time lies in different banks, and rows begin at multiples
// of 16 bytes. Of tf32 that is 4 depths of 8 rows or columns, and it is the depth that is a row of
// weights forward, and on the way back of x and delta where they are multiplied with each other.
constexpr int STRIDE = WIDTH + (SHORT || (TENSOR && BACK) ? 8 : 4);
constexpr int WEIGHTS = WIDTH + (SHORT || (TENSOR && !BACK) ? 8 : 4);

__device__ __forceinline__ int padded(int width) { return (width + 15) / 16 * 16; }

template <class T>
__device__ __forceinline__ T rounded(T x) {
#if TENSOR
    if constexpr (sizeof(T) == 4) return __uint_as_float(to_tf32(x));
#endif
    return x;
}

// Copies `there` lines of `length` numbers, which lie one after the other, to shared memory: to
// `lines` lines of WIDTH numbers, of which the rest is 0. ROUND: to tf32, where products round.
template <bool ROUND, class From>
__device__ __forceinline__ void copy_in(NUMBER* to, int stride, const From* from, int lines,
                                        int there, int length, int thread, int threads) {
    constexpr int N = 16 / sizeof(NUMBER);
    if constexpr (sizeof(From) == sizeof(NUMBER)) {
        if (length % N == 0 && is_aligned<N>(from)) {
#pragma unroll 4
            for (int i = thread; i < lines * (WIDTH / N); i += threads) {
                const int line = i / (WIDTH / N), offset = i % (WIDTH / N) * N;
                Pack<NUMBER, N> pack{};
                if (line < there && offset < length) pack = load<N>(from + line * length + offset);
                if constexpr (ROUND) {
#pragma unroll
                    for (int e = 0; e < N; ++e) pack.at[e] = rounded(pack.at[e]);
                }
                store(to + line * stride + offset, pack);
            }
            return;
        }
    }
#pragma unroll 4
    for (int i = thread; i < lines * WIDTH; i += threads) {
        const int line = i / WIDTH, offset = i % WIDTH;
        const bool is_there = line < there && offset < length;
        const NUMBER x = is_there ? converted<NUMBER>(from[line * length + offset]) : NUMBER{};
        to[line * stride + offset] = ROUND ? rounded(x) : x;
    }
}

// A warp's rows back to lines of `length` numbers, one after the other.
template <int ROWS>
__device__ __forceinline__ void copy_out(NUMBER* to, const NUMBER* own, int there, int length) {
    constexpr int N = 16 / sizeof(NUMBER);
    const int lane = threadIdx.x % 32;
    if (length % N == 0 && is_aligned<N>(to)) {
#pragma unroll 4
        for (int i = lane; i < ROWS * (WIDTH / N); i += 32) {
            const int row = i / (WIDTH / N), column = i % (WIDTH / N) * N;
            if (row < there && column < length) {
                store(to + row * length + column, load<N>(own + row * STRIDE + column));
            }
        }
        return;
    }
#pragma unroll 4
    for (int i = lane; i < ROWS * WIDTH; i += 32) {
        const int row = i / WIDTH, column = i % WIDTH;
        if (row < there && column < length) to[row * length + column] = own[row * STRIDE + column];
    }
}

// The products of 16 DOWN rows of a warp with a layer's weights (I, O), which lie in shared memory
// as in memory: rows x W, or where BACK rows x W^T.
template <int DOWN>
struct WarpSums {
    static constexpr int ROWS = 16 * DOWN;

#if TENSOR
    static constexpr int MY_ROWS = 2 * DOWN, MY_COLUMNS = WIDTH / 4;
    static constexpr int SAME_COLUMNS = 4;  // lanes so many apart have the same columns
    static constexpr bool NEIGHBOURS = true;  // columns 2c and 2c + 1 of a lane are
    float sums[DOWN][WIDTH / 8][4];  // as multiply_add lays them out

    __device__ __forceinline__ static int row(int r) { return r * 8 + threadIdx.x % 32 / 4; }
    __device__ __forceinline__ static int column(int c) {
        return c / 2 * 8 + threadIdx.x % 4 * 2 + c % 2;
    }
    // The first of the columns that all lanes together have at c.
    __device__ __forceinline__ static int block(int c) { return c / 2 * 8; }
    __device__ __forceinline__ float& at(int r, int c) {
        return sums[r / 2][c / 2][r % 2 * 2 + c % 2];
    }
#else
    static constexpr int MY_ROWS = 4 * DOWN, MY_COLUMNS = WIDTH / 8;
    static constexpr int SAME_COLUMNS = 8;
    static constexpr bool NEIGHBOURS = !BACK;
    float sums[MY_ROWS][MY_COLUMNS];

    __device__ __forceinline__ static int row(int r) { return r * 4 + threadIdx.x % 32 / 8; }
    __device__ __forceinline__ static int column(int c) {
        return BACK ? c * 8 + threadIdx.x % 8 : c / 4 * 32 + threadIdx.x % 8 * 4 + c % 4;
    }
    __device__ __forceinline__ static int block(int c) { return BACK ? c * 8 : c / 4 * 32; }
    __device__ __forceinline__ float& at(int r, int c) { return sums[r][c]; }
#endif

    // `depth` numbers of each row, and so many columns of the result; others stay 0.
    template <class T>
    __device__ __forceinline__ void multiply(const T* own, const T* weights, int depth,
                                             int columns) {
#pragma unroll
        for (int r = 0; r < MY_ROWS; ++r) {
#pragma unroll
            for (int c = 0; c < MY_COLUMNS; ++c) at(r, c) = 0;
        }
#if !TENSOR
        multiply_plain(own, weights, depth, columns);
#else
        if constexpr (sizeof(T) == 2) {
            multiply_matrices(own, weights, depth, columns);
        } else {
            multiply_numbers(own, weights, depth, columns);
        }
#endif
    }

private:
#if TENSOR
    template <class T>
    __device__ __forceinline__ void multiply_matrices(const T* own, const T* weights, int depth,
                                                      int columns) {
        const int lane = threadIdx.x % 32, line = lane % 8;
        const int second = lane / 8 % 2, third = lane / 16;
#pragma unroll 1
        for (int d = 0; d < depth; d += 16) {
            unsigned a[DOWN][4];
#pragma unroll
            for (int i = 0; i < DOWN; ++i) {
                load_matrices(a[i], own + (i * 16 + second * 8 + line) * STRIDE + d + third * 8);
            }
#pragma unroll
            for (int j = 0; j < WIDTH / 16; ++j) {
                if (j * 16 >= columns) break;
                unsigned both[4];
                if constexpr (BACK) {
                    const int c = j * 16 + third * 8 + line;
                    load_matrices(both, weights + c * WEIGHTS + d + second * 8);
                } else {
                    const int c = j * 16 + third * 8;
                    load_matrices_transposed(both,
                                             weights + (d + second * 8 + line) * WEIGHTS + c);
                }
                const unsigned b[2][2] = {{both[0], both[1]}, {both[2], both[3]}};
#pragma unroll
                for (int i = 0; i < DOWN; ++i) {
                    multiply_add(sums[i][2 * j], a[i], b[0], T{});
                    multiply_add(sums[i][2 * j + 1], a[i], b[1], T{});
                }
            }
        }
    }

    template <class T>
    __device__ __forceinline__ void multiply_numbers(const T* own, const T* weights, int depth,
                                                     int columns) {
        const int group = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll 1
        for (int d = 0; d < depth; d += 8) {
            unsigned a[DOWN][4];
#pragma unroll
            for (int i = 0; i < DOWN; ++i) {
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const int r = i * 16 + e % 2 * 8 + group;
                    a[i][e] = to_tf32(own[r * STRIDE + d + t + e / 2 * 4]);
                }
            }
#pragma unroll
            for (int j = 0; j < WIDTH / 8; ++j) {
                if (j * 8 >= columns) break;
                unsigned b[2];  // rounded when they were copied
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const int c = j * 8 + group, place = d + t + e * 4;
                    b[e] = __float_as_uint(
                        weights[BACK ? c * WEIGHTS + place : place * WEIGHTS + c]);
                }
#pragma unroll
                for (int i = 0; i < DOWN; ++i) multiply_add_tf32(sums[i][j], a[i], b);
            }
        }
    }
#else
    __device__ __forceinline__ void multiply_plain(const NUMBER* own, const NUMBER* weights,
                                                   int depth, int columns) {
        const int mine = threadIdx.x % 8;
#pragma unroll 1
        for (int d = 0; d < depth; d += 4) {
            Pack<float, 4> a[MY_ROWS];
#pragma unroll
            for (int r = 0; r < MY_ROWS; ++r) a[r] = load<4>(own + row(r) * STRIDE + d);
            if constexpr (BACK) {
#pragma unroll
                for (int c = 0; c < MY_COLUMNS; ++c) {
                    if (c * 8 >= columns) break;
                    const Pack<float, 4> b = load<4>(weights + (c * 8 + mine) * WEIGHTS + d);
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
#pragma unroll
                        for (int r = 0; r < MY_ROWS; ++r) at(r, c) += a[r].at[e] * b.at[e];
                    }
                }
            } else {
#pragma unroll
                for (int e = 0; e < 4; ++e) {
#pragma unroll
                    for (int c = 0; c < MY_COLUMNS; c += 4) {
                        if (c * 8 >= columns) break;
                        const Pack<float, 4> b =
                            load<4>(weights + (d + e) * WEIGHTS + c * 8 + mine * 4);
#pragma unroll
                        for (int k = 0; k < 4; ++k) {
#pragma unroll
                            for (int r = 0; r < MY_ROWS; ++r) {
                                at(r, c + k) += a[r].at[e] * b.at[k];
                            }
                        }
                    }
                }
            }
        }
    }
#endif
};

// Two numbers of a row of shared memory, or of an array with `length` numbers in a row, which
// begins at a multiple of both.
template <bool NEIGHBOURS, class T>
__device__ __forceinline__ void put_two(T* row, int first, int second, int length, float x,
                                        float y) {
    if (NEIGHBOURS && length % 2 == 0) {
        if (second < length) store(row + first, Pack<T, 2>{{narrow<T>(x), narrow<T>(y)}});
        return;
    }
    if (first < length) row[first] = narrow<T>(x);
    if (second < length) row[second] = narrow<T>(y);
}

// sums times the dropout of elements (B, width), if the layer has one. The random words are drawn
// in a loop that is not unrolled, which takes far fewer registers; neighbours mostly share theirs.
template <class Sums>
__device__ __forceinline__ void drop(Sums& sums, const Layer& layer, int width, long long first_row,
                                     const long long* counters) {
    constexpr int COLUMNS = Sums::MY_COLUMNS, COUNT = Sums::MY_ROWS * COLUMNS;
    static_assert(COUNT <= 64, "a bit for each sum");
    if (layer.threshold == 0) return;
    const Dropout<float> dropout(static_cast<unsigned>(layer.threshold),
                                 static_cast<float>(layer.scale), static_cast<int>(layer.number),
                                 counters);
    const auto words_of = [&](long long element) {
        return philox(static_cast<unsigned>(element >> 2), dropout.stream, dropout.step,
                      dropout.seed);
    };
    const auto drops = [&](const Words& words, long long element) {
        const unsigned low = element & 1 ? words.word[1] : words.word[0];
        const unsigned high = element & 1 ? words.word[3] : words.word[2];
        return (element & 2 ? high : low) < dropout.threshold;
    };
    unsigned long long dropped = 0;
#pragma unroll 1
    for (int i = 0; i < COUNT; i += 2) {
        if (Sums::column(i % COLUMNS) >= width) continue;
        const long long row = (first_row + Sums::row(i / COLUMNS)) * width;
        const long long first = row + Sums::column(i % COLUMNS);
        const long long second = row + Sums::column(i % COLUMNS + 1);
        Words words = words_of(first);
        if (drops(words, first)) dropped |= 1ull << i;
        if (!Sums::NEIGHBOURS || (first & 3) == 3) words = words_of(second);
        if (drops(words, second)) dropped |= 2ull << i;
    }
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        sums.at(i / COLUMNS, i % COLUMNS) *= dropped >> i & 1 ? 0.0f : dropout.scale;
    }
}

// body(G()) for the activation G at this place of a list.
template <class... Activations>
struct OneOf {
    template <class Body>
    static __device__ __forceinline__ void apply(int place, Body body) {
        int i = 0;
        ((place == i++ ? body(Activations()) : void()), ...);
    }
};
using Activation = OneOf<ACTIVATIONS>;
