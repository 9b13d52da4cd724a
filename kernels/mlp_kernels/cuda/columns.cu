// The gradient of a bias: sums over the rows of a batch, in a fixed order.
//
// Macro: NUMBER, of the matrix.
#include <elements.cuh>
#include <reduce.cuh>

constexpr int THREADS = 256;

// Of each column's THREADS / lanes numbers, lying `lanes` apart in threads' order, the sum; to the
// first `lanes` threads, one per column.
template <class C>
__device__ __forceinline__ C sum_apart(C x, int lanes) {
    __shared__ C part[THREADS];
    __syncthreads();  // an earlier sum may still be read
    part[threadIdx.x] = x;
    __syncthreads();
    for (int step = THREADS / 2; step >= lanes; step /= 2) {
        if (threadIdx.x < step) part[threadIdx.x] += part[threadIdx.x + step];
        __syncthreads();
    }
    return part[threadIdx.x % lanes];
}

// sums (width,) of delta (rows, width). Each block adds up a share of the rows of `lanes` columns;
// the last of the gridDim.y blocks of these columns adds up what they left in partial
// (gridDim.y, width). `lanes` is a power of two; tickets (gridDim.x,).
extern "C" __global__ void column_sums(const NUMBER* delta, Compute<NUMBER>* sums, long long rows,
                                       int width, int lanes, Compute<NUMBER>* partial,
                                       unsigned* tickets) {
    using C = Compute<NUMBER>;
    const int groups = THREADS / lanes, group = threadIdx.x / lanes;
    const long long column = static_cast<long long>(blockIdx.x) * lanes + threadIdx.x % lanes;
    const bool there = column < width;
    C sum = 0;
    if (there) {
        for (long long row = static_cast<long long>(blockIdx.y) * groups + group; row < rows;
             row += static_cast<long long>(gridDim.y) * groups) {
            sum += widen(delta[row * width + column]);
        }
    }
    sum = sum_apart(sum, lanes);
    if (there && group == 0) partial[static_cast<long long>(blockIdx.y) * width + column] = sum;
    if (!is_last_block(tickets + blockIdx.x, gridDim.y)) return;
    sum = 0;
    if (there) {
        for (long long part = group; part < gridDim.y; part += groups) {
            sum += partial[part * width + column];
        }
    }
    sum = sum_apart(sum, lanes);
    if (there && group == 0) sums[column] = sum;
}
