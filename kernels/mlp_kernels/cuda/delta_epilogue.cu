// What follows the product of linear_delta.cu where a library made it.
//
// Macros: those of epilogue.cuh.
#include <epilogue.cuh>
#include <philox.cuh>
#include <reduce.cuh>

// Of each column's numbers in a block's groups of `lanes` threads the sums, to the first group.
__device__ __forceinline__ void sum_groups(C (&sums)[N], int lanes) {
    __shared__ C part[N][THREADS];
    __syncthreads();  // an earlier sum may still be read
#pragma unroll
    for (int j = 0; j < N; ++j) part[j][threadIdx.x] = sums[j];
    __syncthreads();
    for (int step = THREADS / 2; step >= lanes; step /= 2) {
        if (threadIdx.x < step) {
#pragma unroll
            for (int j = 0; j < N; ++j) part[j][threadIdx.x] += part[j][threadIdx.x + step];
        }
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < N; ++j) sums[j] = part[j][threadIdx.x % lanes];
}

__device__ __forceinline__ void store_sums(C* to, const C (&sums)[N], const Share& share) {
    if (share.group != 0) return;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        if (j < share.count) to[share.column + j] = sums[j];
    }
}

// out = z * dropout * g'(saved), and its column sums db (width,): z, saved, out (rows, width). out
// may be z. Sums in a fixed order: rows of a thread, threads of a block, then blocks, whose sums
// are in partial (gridDim.y, width), by the last of them; tickets (gridDim.x,).
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    delta_epilogue(const PRODUCT* z, const RESULT* saved, RESULT* out, C* db, C* partial,
                   unsigned* tickets, long long rows, int width, int lanes, unsigned threshold,
                   double scale, int layer, const long long* counters) {
    const Share share(width, lanes);
    const bool wide = is_wide(z, width) && is_wide(saved, width) && is_wide(out, width);
#if DROPOUT
    const Dropout<C> dropout(threshold, static_cast<C>(scale), layer, counters);
#endif
    C sums[N] = {};
    for (long long row = share.first; row < rows && share.count > 0; row += share.step) {
        const long long at = row * width + share.column;
        const auto product = load_some(z + at, share.count, wide);
        const auto kept = load_some(saved + at, share.count, wide);
        Pack<RESULT, N> result;
        C value[N];
#pragma unroll
        for (int j = 0; j < N; ++j) value[j] = number<C>(product.at[j]);
#if DROPOUT
        dropout.apply(value, at);
#endif
#pragma unroll
        for (int j = 0; j < N; ++j) {
            value[j] *= ACTIVATION::derivative(number<C>(kept.at[j]));
            sums[j] += value[j];
            result.at[j] = narrow<RESULT>(value[j]);
        }
        store_some(out + at, result, share.count, wide);
    }
    sum_groups(sums, lanes);
    if (gridDim.y == 1) {
        store_sums(db, sums, share);
        return;
    }
    store_sums(partial + static_cast<long long>(blockIdx.y) * width, sums, share);
    if (!is_last_block(tickets + blockIdx.x, gridDim.y)) return;
#pragma unroll
    for (int j = 0; j < N; ++j) sums[j] = 0;
    for (int block = share.group; block < gridDim.y; block += share.groups) {
        const C* const of_block = partial + static_cast<long long>(block) * width + share.column;
#pragma unroll
        for (int j = 0; j < N; ++j) sums[j] += j < share.count ? of_block[j] : C(0);
    }
    sum_groups(sums, lanes);
    store_sums(db, sums, share);
}
