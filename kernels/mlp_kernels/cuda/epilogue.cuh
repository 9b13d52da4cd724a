// A pass over a matrix of products that a library made: what each thread takes of it, and how.
//
// Macros: PRODUCT, type of the products; RESULT, of what is written; ACTIVATION; DROPOUT.
#pragma once
#include <activations.cuh>
#include <elements.cuh>

using C = Compute<PRODUCT>;

constexpr int THREADS = 256;
constexpr int N = pack_size<PRODUCT, RESULT>();  // neighbours in a row, taken at a time

// This thread's columns and rows: N columns, those of `lanes` threads side by side, and every
// `step`-th row.
struct Share {
    int lanes, groups, group, column, count;  // count: how many of the N columns there are
    long long first, step;

    __device__ __forceinline__ Share(int width, int lanes)
        : lanes(lanes),
          groups(THREADS / lanes),
          group(threadIdx.x / lanes),
          column(static_cast<int>(blockIdx.x * lanes + threadIdx.x % lanes) * N),
          count(min(max(width - column, 0), N)),
          first(static_cast<long long>(blockIdx.y) * groups + group),
          step(static_cast<long long>(gridDim.y) * groups) {}
};

// Whether all rows of an array allow accesses of N numbers.
template <class T>
__device__ __forceinline__ bool is_wide(const T* array, int width) {
    return array == nullptr || (width % N == 0 && is_aligned<N>(array));
}

template <class T>
__device__ __forceinline__ Pack<T, N> load_some(const T* from, int count, bool wide) {
    if (wide) return load<N>(from);
    Pack<T, N> pack = {};
#pragma unroll
    for (int j = 0; j < N; ++j) {
        if (j < count) pack.at[j] = from[j];
    }
    return pack;
}

template <class T>
__device__ __forceinline__ void store_some(T* to, const Pack<T, N>& pack, int count, bool wide) {
    if (wide) {
        store<N>(to, pack);
        return;
    }
#pragma unroll
    for (int j = 0; j < N; ++j) {
        if (j < count) to[j] = pack.at[j];
    }
}
