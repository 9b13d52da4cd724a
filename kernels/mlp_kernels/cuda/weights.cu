// The sum of a batch's sample weights, by which its loss is divided.
//
// Macro: NUMBER: float or double.
#include <reduce.cuh>

constexpr int THREADS = 256;

// room[0] = sum of weight (rows,), in double; room (1 + gridDim.x,).
extern "C" __global__ void total_weight(const NUMBER* weight, long long rows, double* room,
                                        unsigned* ticket) {
    double total = 0;
    for (long long i = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; i < rows;
         i += static_cast<long long>(gridDim.x) * THREADS) {
        total += weight[i];
    }
    total = sum_block<THREADS>(total);
    if (threadIdx.x == 0) room[1 + blockIdx.x] = total;
    if (!is_last_block(ticket, gridDim.x)) return;
    total = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += THREADS) total += room[1 + i];
    total = sum_block<THREADS>(total);
    if (threadIdx.x == 0) room[0] = total;
}
