// What begins a step and an epoch, such that no step depends on a number that the host holds.
#include <philox.cuh>
#include <reduce.cuh>
#include <state.cuh>

// counters[BATCH] += 1, counters[STEP] += 1, scalars (3,) = [rates[counters[BATCH]], 1, 0], and
// index (rows,) = order (places,) at batch_size * counters[BATCH] mod places and what follows.
extern "C" __global__ void begin_step(long long* counters, const double* rates, double* scalars,
                                      const long long* order, long long* index, long long rows,
                                      long long batch_size, long long places, unsigned* ticket) {
    const long long batch = counters[BATCH] + 1, step = counters[STEP] + 1;
    const long long threads = static_cast<long long>(gridDim.x) * blockDim.x;
    const long long row = batch_size * batch;
    const long long* place = order + (row < places ? row : row % places);
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < rows;
         i += threads) {
        index[i] = place[i];
    }
    // Only when all blocks have read the counters may they change.
    if (is_last_block(ticket, gridDim.x) && threadIdx.x == 0) {
        counters[BATCH] = batch;
        counters[STEP] = step;
        scalars[LEARNING_RATE] = rates[batch];
        scalars[GRADIENT_SCALE] = 1;
        scalars[SKIP] = 0;
    }
}

// counters[BATCH] = -1, totals (2,) = 0.
extern "C" __global__ void begin_epoch(long long* counters, double* totals) {
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        counters[BATCH] = -1;
        totals[LOSS_SUM] = 0;
        totals[WEIGHT_SUM] = 0;
    }
}

// order (size,) = 0, 1, ..., rows - 1, 0, 1, ...
extern "C" __global__ void fill_in_turn(long long* order, long long size, long long rows) {
    const long long threads = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < size;
         i += threads) {
        order[i] = i % rows;
    }
}
