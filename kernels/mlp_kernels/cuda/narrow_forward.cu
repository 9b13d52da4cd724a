// All layers of a network that is narrow, one after the other: a_l = g_l(a_{l-1} W_l + b_l), each
// a_l in shared memory and nowhere else, unless the tape has a place for it.
//
// x (B, I) of the first layer. output (B, O), where it is not null, receives what the last layer
// puts out, in place of the tape; then nothing else is saved of that layer.
// The block copies the weights of all layers to shared memory once, where they fit (`resident`);
// else those of one layer at a time. Each warp takes some rows at a time through all layers.
//
// Macros, besides those of narrow.cuh: INPUT, type of x; RESULT, type of the output.
#define BACK 0
#include "narrow.cuh"

using Sums = WarpSums<WIDTH == 64 ? 2 : 1>;
constexpr int ROWS = Sums::ROWS;

// In shared memory, by all threads of the block.
__device__ __forceinline__ NUMBER* weights_of(const Layer& layer, const NUMBER* weights,
                                              NUMBER* slot) {
    const int I = static_cast<int>(layer.inputs), O = static_cast<int>(layer.outputs);
    copy_in<true>(slot, WEIGHTS, weights + layer.weights, padded(I), I, O, threadIdx.x,
                  blockDim.x);
    return slot;
}

// sums = g(sums + b), dropped where the layer drops, and 0 beside the layer; keep(row, first,
// second, x, y) is given what the backward pass needs of two columns, if that is not the output.
template <class Keep>
__device__ __forceinline__ void activate(Sums& sums, const Layer& layer, const float* b,
                                         long long first_row, const long long* counters, bool kept,
                                         Keep keep) {
    const int O = static_cast<int>(layer.outputs);
    Activation::apply(static_cast<int>(layer.activation), [&](auto g) {
#pragma unroll
        for (int c = 0; c < Sums::MY_COLUMNS; c += 2) {
            if (Sums::block(c) >= padded(O)) break;
            const int first = Sums::column(c), second = Sums::column(c + 1);
            const float bias[2] = {first < O ? b[first] : 0.0f, second < O ? b[second] : 0.0f};
#pragma unroll
            for (int r = 0; r < Sums::MY_ROWS; ++r) {
                const float z[2] = {sums.at(r, c) + bias[0], sums.at(r, c + 1) + bias[1]};
                const float a[2] = {g.forward(z[0]), g.forward(z[1])};
                if (kept) {
                    const bool z_is = g.SAVES_Z;
                    keep(Sums::row(r), first, second, z_is ? z[0] : a[0], z_is ? z[1] : a[1]);
                }
                sums.at(r, c) = first < O ? a[0] : 0.0f;
                sums.at(r, c + 1) = second < O ? a[1] : 0.0f;
            }
        }
    });
    drop(sums, layer, O, first_row, counters);
}

// body(row, first, second, x, y) for each two columns of each row, up to the width.
template <class Body>
__device__ __forceinline__ void for_twos(Sums& sums, int width, Body body) {
#pragma unroll
    for (int c = 0; c < Sums::MY_COLUMNS; c += 2) {
        if (Sums::block(c) >= width) break;
#pragma unroll
        for (int r = 0; r < Sums::MY_ROWS; ++r) {
            body(Sums::row(r), Sums::column(c), Sums::column(c + 1), sums.at(r, c),
                 sums.at(r, c + 1));
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 1)
    narrow_forward(const INPUT* x, const NUMBER* weights, const float* biases, NUMBER* tape,
                   RESULT* output, const Layer* layers, int depth, int B, int resident,
                   const long long* counters) {
    DYNAMIC_SHARED(memory);
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    NUMBER* const own = reinterpret_cast<NUMBER*>(memory) + warp * ROWS * STRIDE;
    NUMBER* const slots = reinterpret_cast<NUMBER*>(memory) + warps * ROWS * STRIDE;
    if (resident) {
        for (int l = 0; l < depth; ++l) weights_of(layers[l], weights, slots + layers[l].slot);
        __syncthreads();
    }
    const int tiles = (B + ROWS - 1) / ROWS;
    // Neighbouring tiles go to different blocks, so that few of them occupy many multiprocessors.
    for (int round = blockIdx.x; round < tiles; round += gridDim.x * warps) {
        const int tile = round + gridDim.x * warp;
        if (resident && tile >= tiles) break;
        const long long first_row = static_cast<long long>(tile) * ROWS;
        const int there = tile < tiles ? min(ROWS, static_cast<int>(B - first_row)) : 0;
        const int I = static_cast<int>(layers[0].inputs);
        copy_in<false>(own, STRIDE, there ? x + first_row * I : x, ROWS, there, I, lane, 32);
        for (int l = 0; l < depth; ++l) {
            const Layer& layer = layers[l];
            const int O = static_cast<int>(layer.outputs);
            const NUMBER* W = slots + layer.slot;
            if (!resident) {
                __syncthreads();
                W = weights_of(layer, weights, slots);
                __syncthreads();
            }
            __syncwarp();
            Sums sums;
            sums.multiply(own, W, padded(static_cast<int>(layer.inputs)), padded(O));
            __syncwarp();
            const bool last = l == depth - 1 && output != nullptr;
            const bool kept = layer.saved >= 0 && !last;
            const auto put = [&](int row, int first, int second, float p, float q) {
                put_two<Sums::NEIGHBOURS>(own + row * STRIDE, first, second, padded(O), p, q);
            };
            activate(sums, layer, biases + layer.bias, first_row, counters, kept, put);
            if (last) {
                RESULT* const out = output + first_row * O;
                for_twos(sums, O, [&](int row, int first, int second, float p, float q) {
                    if (row < there) {
                        put_two<Sums::NEIGHBOURS>(out + row * O, first, second, O, p, q);
                    }
                });
                break;
            }
            if (kept) {
                __syncwarp();
                copy_out<ROWS>(tape + layer.saved + first_row * O, own, there, O);
                __syncwarp();
            }
            for_twos(sums, padded(O), put);
            __syncwarp();
            if (layer.a >= 0) copy_out<ROWS>(tape + layer.a + first_row * O, own, there, O);
        }
        __syncwarp();  // the last product may still be reading the rows
    }
}
