// Gradients of a narrow network's weights and biases from what the blocks of narrow_delta.cu left
// in partial (blocks, size), in the order of the blocks.
//
// Macro: FRAGMENTS, as that file's TENSOR.
#include "narrow_unit.cuh"

// Numbers of `partial` that belong together: units of dW (inputs, outputs), or where inputs is 0
// the `outputs` numbers of db. `place`: of the gradient among all.
struct Part {
    long long start, count, inputs, outputs, place;
};

// One part for each blockIdx.y.
extern "C" __global__ void narrow_grads(const float* partial, float* gradients, const Part* parts,
                                        int blocks, int size) {
    const Part part = parts[blockIdx.y];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= part.count) return;
    float total = 0;
    const float* from = partial + part.start + i;
#pragma unroll 8
    for (int block = 0; block < blocks; ++block, from += size) total += *from;
    if (part.inputs == 0) {
        gradients[part.place + i] = total;
        return;
    }
    const int across = static_cast<int>(part.outputs + UNIT_COLUMNS - 1) / UNIT_COLUMNS;
    const int unit = i / UNIT, lane = i % 32, e = i % UNIT / 32;
    const int row = unit / across * UNIT_ROWS + unit_row(e, lane);
    const int column = unit % across * UNIT_COLUMNS + unit_column(e, lane);
    if (row < part.inputs && column < part.outputs) {
        gradients[part.place + row * part.outputs + column] = total;
    }
}
