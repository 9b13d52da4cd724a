// What the phases of tiny.cu know of a network and of a step.
#pragma once
#include <rules.cuh>
#include <state.cuh>
#include <tiny.cuh>

using C = Compute<NUMBER>;
using Rule = RULE<C, KEPT>;
constexpr bool SHORT = sizeof(NUMBER) < sizeof(C);  // then products read a copy of the parameters

// What stays as it is from step to step: see tiny_steps. Tables are in shared memory.
struct Plan {
    const long long* layers;
    const double* settings;
    int depth, batch_size, split, widest, parts;
    C *parameters, *gradients, *states[3];
    NUMBER* copies;
    long long weights_end;
    NUMBER* tape;
    C *output, *output_saved;
    const C* X;
    const long long* labels;
    const C *numbers, *weight;
    const long long* order;
    double *values, *squares;
    const double* penalty_scales;  // with both others, or null
    double *penalty_values, *penalties;
    unsigned char* memory;

    __device__ __forceinline__ int at(int layer, Column column) const {
        return static_cast<int>(layers[layer * COLUMNS + column]);
    }
    // The weights that products read.
    __device__ __forceinline__ const NUMBER* W(int layer) const {
        const NUMBER* const flat = SHORT ? copies : reinterpret_cast<const NUMBER*>(parameters);
        return flat + at(layer, W_START);
    }
    __device__ __forceinline__ unsigned threshold(int layer) const {
        return static_cast<unsigned>(layers[layer * COLUMNS + DROP]);
    }
    __device__ __forceinline__ Dropout<C> dropout(int layer, const long long* counters) const {
        return {threshold(layer), static_cast<C>(settings[SCALES + layer]), layer, counters};
    }
};

// What is of one step.
struct Now {
    long long counters[4];
    long long first;      // of the batch, in the epoch's order
    int rows;             // of the batch
    double rate, weight;  // learning rate, sum of the rows' weights
    double penalty;       // factor of the penalty's gradient
    bool is_last;         // of the launch
};

// The sum over the block, to all its threads.
__device__ __forceinline__ double sum_for_all(double x) {
    __shared__ double sum;
    x = sum_block<THREADS>(x);
    if (threadIdx.x == 0) sum = x;
    __syncthreads();
    x = sum;
    __syncthreads();  // before an other sum comes here
    return x;
}
