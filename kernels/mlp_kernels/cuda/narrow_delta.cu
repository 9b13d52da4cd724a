// The way back through the layers of a narrow network, from the last to the first:
// delta_{l-1} = (delta_l W_l^T) * g'_{l-1} in shared memory, and where `accumulate` is set also
// dW_l = a_{l-1}^T delta_l, so that nothing is read twice and no delta is written in vain.
//
// A block goes through all layers with 16 rows for each of its warps, then with other rows. It
// keeps its sums over them (of dW in units, then of db) in shared memory, and leaves them at the
// end in partial (gridDim.x, size); narrow_grads.cu adds these up. `layers` are in the order of the
// way back. A layer whose `saved` is -1 has none below. `last_bias`: where the sums over the
// columns of `delta` (B, O) are kept, or -1. `biases`: how many sums of db there are.
//
// Macros: those of narrow.cuh.
#define BACK 1
#define FRAGMENTS TENSOR
#include "narrow.cuh"
#include "narrow_unit.cuh"

using Sums = WarpSums<1>;
constexpr int ROWS = Sums::ROWS;

// sums += x^T delta of `rows` rows, for the unit whose first input and output are at these places.
template <class T>
__device__ __forceinline__ void add_products(float (&sums)[16], const T* x, const T* delta,
                                             int rows) {
#if !TENSOR
    const int lane = threadIdx.x % 32;
    for (int r = 0; r < rows; ++r) {
        const Pack<float, 4> a = load<4>(x + r * STRIDE + lane / 4 * 4);
        const Pack<float, 4> b = load<4>(delta + r * STRIDE + lane % 4 * 4);
#pragma unroll
        for (int e = 0; e < 16; ++e) sums[e] += a.at[e / 4] * b.at[e % 4];
    }
#else
    const int lane = threadIdx.x % 32;
    float c[2][2][4];
#pragma unroll
    for (int e = 0; e < 16; ++e) c[e / 8][e / 4 % 2][e % 4] = sums[e];
    if constexpr (sizeof(T) == 2) {
        const int line = lane % 8, second = lane / 8 % 2, third = lane / 16;
        for (int r = 0; r < rows; r += 16) {
            unsigned a[2][4], both[4];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                load_matrices_transposed(
                    a[i], x + (r + third * 8 + line) * STRIDE + i * 16 + second * 8);
            }
            load_matrices_transposed(both, delta + (r + second * 8 + line) * STRIDE + third * 8);
            const unsigned b[2][2] = {{both[0], both[1]}, {both[2], both[3]}};
#pragma unroll
            for (int i = 0; i < 4; ++i) multiply_add(c[i / 2][i % 2], a[i / 2], b[i % 2], T{});
        }
    } else {
        const int group = lane / 4, t = lane % 4;
        for (int r = 0; r < rows; r += 8) {
            unsigned a[2][4], b[2][2];
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                const int place = e / 4 * 16 + e % 2 * 8 + group;
                a[e / 4][e % 4] = to_tf32(x[(r + t + e % 4 / 2 * 4) * STRIDE + place]);
            }
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                b[e / 2][e % 2] =
                    to_tf32(delta[(r + t + e % 2 * 4) * STRIDE + e / 2 * 8 + group]);
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) multiply_add_tf32(c[i / 2][i % 2], a[i / 2], b[i % 2]);
        }
    }
#pragma unroll
    for (int e = 0; e < 16; ++e) sums[e] = c[e / 8][e / 4 % 2][e % 4];
#endif
}

// The block's x^T delta, added to its sums of this layer; a unit's are always the same warp's.
__device__ __forceinline__ void add_gradients(float* sums, const NUMBER* x, const NUMBER* delta,
                                              int rows, const Layer& layer) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int across = (static_cast<int>(layer.outputs) + UNIT_COLUMNS - 1) / UNIT_COLUMNS;
    const int down = (static_cast<int>(layer.inputs) + UNIT_ROWS - 1) / UNIT_ROWS;
    for (int unit = warp; unit < across * down; unit += blockDim.x / 32) {
        float* const kept = sums + unit * UNIT + lane;
        float mine[16];
#pragma unroll
        for (int e = 0; e < 16; ++e) mine[e] = kept[e * 32];
        add_products(mine, x + unit / across * UNIT_ROWS, delta + unit % across * UNIT_COLUMNS,
                     rows);
#pragma unroll
        for (int e = 0; e < 16; ++e) kept[e * 32] = mine[e];
    }
}

// Sums times dropout and g', 0 beside the layer below, rounded to the warp's rows of deltas; their
// column sums, not rounded, are added to `bias`. The rows of `saved` belong to the same rows.
__device__ __forceinline__ void derive(Sums& sums, const Layer& layer, const NUMBER* saved,
                                       NUMBER* own, float* bias, long long first_row,
                                       const long long* counters) {
    const int I = static_cast<int>(layer.inputs);
    drop(sums, layer, I, first_row, counters);
    Activation::apply(static_cast<int>(layer.activation), [&](auto g) {
#pragma unroll
        for (int c = 0; c < Sums::MY_COLUMNS; ++c) {
            if (Sums::block(c) >= padded(I)) break;
            const int column = Sums::column(c);
#pragma unroll
            for (int r = 0; r < Sums::MY_ROWS; ++r) {
                const float kept = widen(saved[Sums::row(r) * STRIDE + column]);
                sums.at(r, c) = column < I ? sums.at(r, c) * g.derivative(kept) : 0.0f;
            }
        }
    });
#pragma unroll
    for (int c = 0; c < Sums::MY_COLUMNS; c += 2) {
        if (Sums::block(c) >= padded(I)) break;
        const int first = Sums::column(c), second = Sums::column(c + 1);
        float total[2] = {0, 0};
#pragma unroll
        for (int r = 0; r < Sums::MY_ROWS; ++r) {
            put_two<Sums::NEIGHBOURS>(own + Sums::row(r) * STRIDE, first, second, WIDTH,
                                      sums.at(r, c), sums.at(r, c + 1));
            total[0] += sums.at(r, c);
            total[1] += sums.at(r, c + 1);
        }
#pragma unroll
        for (int step = Sums::SAME_COLUMNS; step < 32; step *= 2) {
            total[0] += __shfl_xor_sync(0xFFFFFFFFu, total[0], step);
            total[1] += __shfl_xor_sync(0xFFFFFFFFu, total[1], step);
        }
        if (threadIdx.x % 32 < Sums::SAME_COLUMNS) {
            if (first < I) bias[first] += total[0];
            if (second < I) bias[second] += total[1];
        }
    }
}

// A warp's rows of an array on their way to shared memory, in registers meanwhile. Where there are
// too few of those, or lines do not begin at multiples of 16 bytes, nothing is on its way.
struct RowsAhead {
    static constexpr int N = 16 / sizeof(NUMBER), COUNT = WIDTH == 64 ? ROWS * (WIDTH / N) / 32 : 0;
    Pack<NUMBER, N> held[COUNT + 1];
    const NUMBER* from;
    int there, length;

    __device__ __forceinline__ bool is_held() const {
        return COUNT > 0 && length % N == 0 && is_aligned<N>(from);
    }

    __device__ __forceinline__ void fetch(const NUMBER* rows, int count, int width) {
        from = rows, there = count, length = width;
        if (!is_held()) return;
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const int place = i * 32 + threadIdx.x % 32;
            const int row = place / (WIDTH / N), column = place % (WIDTH / N) * N;
            held[i] = Pack<NUMBER, N>{};
            if (row < there && column < length) held[i] = load<N>(from + row * length + column);
        }
    }

    __device__ __forceinline__ void put(NUMBER* own) const {
        if (!is_held()) {
            copy_in<false>(own, STRIDE, from, ROWS, there, length, threadIdx.x % 32, 32);
            return;
        }
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const int place = i * 32 + threadIdx.x % 32;
            store(own + place / (WIDTH / N) * STRIDE + place % (WIDTH / N) * N, held[i]);
        }
    }
};

extern "C" __global__ void __launch_bounds__(256, 1)
    narrow_delta(const NUMBER* delta, const NUMBER* weights, NUMBER* tape, float* partial,
                 const Layer* layers, int depth, int B, int accumulate, int size, int biases,
                 int last_bias, const long long* counters) {
    DYNAMIC_SHARED(memory);
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int rows = warps * ROWS;
    // Sums of dW, then of db for each warp, then x and delta of the rows, then weights.
    float* const sums = reinterpret_cast<float*>(memory);
    float* const bias_sums = sums + size - biases;
    NUMBER* const x = reinterpret_cast<NUMBER*>(bias_sums + warps * biases);
    NUMBER* const d = x + rows * STRIDE;
    NUMBER* const slots = d + rows * STRIDE;
    NUMBER *const own_x = x + warp * ROWS * STRIDE, *const own = d + warp * ROWS * STRIDE;
    float* const own_bias = bias_sums + warp * biases;
    for (int l = 0; l < depth; ++l) {
        const int I = static_cast<int>(layers[l].inputs), O = static_cast<int>(layers[l].outputs);
        if (layers[l].saved < 0) continue;
        copy_in<true>(slots + layers[l].slot, WEIGHTS, weights + layers[l].weights, padded(I),
                      I, O, threadIdx.x, blockDim.x);
    }
    for (int i = threadIdx.x; i < size - biases + warps * biases; i += blockDim.x) sums[i] = 0;
    __syncthreads();
    for (int first = blockIdx.x * rows; first < B; first += gridDim.x * rows) {
        const long long first_row = first + warp * ROWS;
        const int there = max(0, min(ROWS, static_cast<int>(B - first_row)));
        const int of_block = padded(min(rows, B - first));
        const long long start = there ? first_row : 0;
        const int O = static_cast<int>(layers[0].outputs);
        copy_in<false>(own, STRIDE, delta + start * O, ROWS, there, O, lane, 32);
        __syncwarp();
        if (last_bias >= 0) {
            for (int column = lane; column < O; column += 32) {
                float total = 0;
#pragma unroll
                for (int r = 0; r < ROWS; ++r) total += widen(own[r * STRIDE + column]);
                own_bias[last_bias + column] += total;
            }
        }
        RowsAhead next, saved;
        next.fetch(tape + layers[0].x + start * layers[0].inputs, accumulate ? there : 0,
                   static_cast<int>(layers[0].inputs));
        for (int l = 0; l < depth; ++l) {
            const Layer& layer = layers[l];
            const int I = static_cast<int>(layer.inputs);
            const bool is_below = layer.saved >= 0;
            const bool apart = is_below && (!accumulate || layer.saved != layer.x);
            if (accumulate) next.put(own_x);
            __syncthreads();
            // On their way while products are made.
            if (apart) saved.fetch(tape + layer.saved + start * I, there, I);
            if (accumulate && l + 1 < depth) {
                const Layer& after = layers[l + 1];
                next.fetch(tape + after.x + start * after.inputs, there,
                           static_cast<int>(after.inputs));
            }
            __syncwarp();  // lanes that had nothing to fetch, too
            if (accumulate) add_gradients(sums + layer.sums, x, d, of_block, layer);
            Sums products;
            if (is_below) {
                products.multiply(own, slots + layer.slot,
                                  padded(static_cast<int>(layer.outputs)), padded(I));
            }
            __syncthreads();  // all have read the rows
            if (!is_below) break;
            if (apart) saved.put(own_x);
            __syncwarp();
            derive(products, layer, own_x, own, own_bias + layer.bias, first_row, counters);
            __syncwarp();
            if (layer.delta >= 0) copy_out<ROWS>(tape + layer.delta + start * I, own, there, I);
        }
        __syncwarp();
    }
    __syncthreads();
    float* const left = partial + static_cast<long long>(blockIdx.x) * size;
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
        float total = sums[i];
        if (i >= size - biases) {
            for (int other = 1; other < warps; ++other) total += sums[i + other * biases];
        }
        left[i] = total;
    }
}
