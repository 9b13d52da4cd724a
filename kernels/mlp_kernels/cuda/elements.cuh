// Elements of arrays: the integer types, accesses of up to 16 bytes, and a loop over all of them.
#pragma once
#include <numbers.cuh>

// Names of one word, as a macro's value is best.
using int8 = signed char;
using uint8 = unsigned char;
using int16 = short;
using int32 = int;
using int64 = long long;

// An element as a number of type C, float or double.
template <class C, class T>
__device__ __forceinline__ C number(T x) {
    return static_cast<C>(x);
}
template <class C>
__device__ __forceinline__ C number(bfloat16 x) {
    return to_float(x);
}
template <class C>
__device__ __forceinline__ C number(float16 x) {
    return to_float(x);
}

// An element as one of type To, rounded to the nearest; integers stay as they are.
template <class To, class From>
struct Converted {
    static __device__ __forceinline__ To of(From x) {
        return narrow<To>(number<Compute<To>>(x));
    }
};
template <class T>
struct Converted<T, T> {
    static __device__ __forceinline__ T of(T x) { return x; }
};
template <class To, class From>
__device__ __forceinline__ To converted(From x) {
    return Converted<To, From>::of(x);
}

// N neighbours, read and written as one.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
    T at[N];
};

template <int N, class T>
__device__ __forceinline__ Pack<T, N> load(const T* from) {
    return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <int N, class T>
__device__ __forceinline__ void store(T* to, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Whether a Pack<T, N> may begin where an array does.
template <int N, class T>
__device__ __forceinline__ bool is_aligned(const T* array) {
    return reinterpret_cast<unsigned long long>(array) % (N * sizeof(T)) == 0;
}

// How many numbers make 16 bytes of the longest of the types.
template <class... T>
__device__ constexpr int pack_size() {
    unsigned long long longest = 1;
    ((longest = sizeof(T) > longest ? sizeof(T) : longest), ...);
    return static_cast<int>(16 / longest);
}

template <int N>
struct Count {
    static constexpr int value = N;
};

// Shares the elements 0, ..., size - 1 among all threads of the grid: body(Count<N>(), i) is to do
// elements i, ..., i + N - 1; where `wide` is false, and at the end, body(Count<1>(), i) one.
template <int N, class Body>
__device__ __forceinline__ void for_elements(long long size, bool wide, Body body) {
    const long long threads = static_cast<long long>(gridDim.x) * blockDim.x;
    const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const long long packs = wide ? size / N : 0;
    for (long long i = thread; i < packs; i += threads) body(Count<N>(), i * N);
    for (long long i = packs * N + thread; i < size; i += threads) body(Count<1>(), i);
}

// Shares a matrix (rows, width) among all threads: groups of `lanes` threads, a power of two, each
// take a row at a time; body(row, column) for columns 0, step, 2 step, ...
template <class Body>
__device__ __forceinline__ void for_rows(long long rows, long long width, int lanes, int step,
                                         Body body) {
    const int groups = blockDim.x / lanes, lane = threadIdx.x % lanes;
    const long long first = static_cast<long long>(blockIdx.x) * groups + threadIdx.x / lanes;
    for (long long row = first; row < rows; row += static_cast<long long>(gridDim.x) * groups) {
        for (long long column = static_cast<long long>(lane) * step; column < width;
             column += static_cast<long long>(lanes) * step) {
            body(row, column);
        }
    }
}
