// A row of a matrix is worked on by LANES neighbouring threads of a warp, a power of two up to 32.
#pragma once
#include <elements.cuh>
#include <reduce.cuh>

template <int LANES>
struct RowGroup {
    long long row, start;  // number of the row, and of its first element
    long long width;       // 0 beyond the last row: the warp's other groups still need its lanes
    int lane;

    // Of the groups of a block, the one of this thread; `first` is the row of the block's first.
    __device__ __forceinline__ RowGroup(long long first, long long rows, long long width)
        : row(first + threadIdx.x / LANES),
          start(row * width),
          width(row < rows ? width : 0),
          lane(threadIdx.x % LANES) {}

    __device__ __forceinline__ bool leads() const { return lane == 0 && width > 0; }

    // Calls body(column) for this lane's columns.
    template <class Body>
    __device__ __forceinline__ void each(Body body) const {
        for (long long k = lane; k < width; k += LANES) body(k);
    }

    // The largest of value(column) >= low. Where one is NaN, any number or NaN.
    template <class C, class Value>
    __device__ __forceinline__ C largest(C low, Value value) const {
        C top = low;
        each([&](long long k) {
            const C x = value(k);
            top = x > top ? x : top;
        });
        for (int step = LANES / 2; step > 0; step /= 2) {
            const C other = __shfl_xor_sync(0xFFFFFFFFu, top, step);
            top = other > top ? other : top;
        }
        return top;
    }

    // The sum of value(column), of type C.
    template <class C, class Value>
    __device__ __forceinline__ C sum(Value value) const {
        C total = 0;
        each([&](long long k) { total += value(k); });
        return sum_lanes<LANES>(total);
    }
};

// Calls body(group) for every row (rows, width); all threads of a warp come along.
template <int LANES, class Body>
__device__ __forceinline__ void for_row_groups(long long rows, long long width, Body body) {
    const int groups = blockDim.x / LANES;
    for (long long first = static_cast<long long>(blockIdx.x) * groups; first < rows;
         first += static_cast<long long>(gridDim.x) * groups) {
        body(RowGroup<LANES>(first, rows, width));
    }
}
