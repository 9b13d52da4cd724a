// The tile of a product that the macros choose, and how results leave it.
//
// NUMBER: type of the operands. TENSOR: 1 for tensor cores. TILE: 128, 64 or 32 rows and columns.
// COPY: bytes that travel to shared memory at a time, on tensor cores: the lines of both operands
// begin at multiples of it; 0 otherwise. SHARED: the bytes of dynamic shared memory that the launch
// gives.
#pragma once
#include "numbers.cuh"
#if TENSOR
#include "tensor_tile.cuh"
#else
#include "plain_tile.cuh"
#endif

#if TENSOR
constexpr int DEPTH = 64 / sizeof(NUMBER);  // 64 bytes of each line at a time
#if TILE == 128
using Tile = TensorTile<NUMBER, 128, 128, DEPTH, 2, 4, 3, COPY>;
#elif TILE == 64
using Tile = TensorTile<NUMBER, 64, 64, DEPTH, 2, 2, 4, COPY>;
#else
using Tile = TensorTile<NUMBER, 32, 32, DEPTH, 2, 2, 4, COPY>;
#endif
#elif TILE == 128
using Tile = PlainTile<NUMBER, 128, 128, 8>;
#else
using Tile = PlainTile<NUMBER, TILE, TILE, 16>;
#endif
using Sum = Tile::Sum;

template <class T>
struct alignas(2 * sizeof(T)) Pair {
    T first, second;
};

// Writes one or both of two neighbours in a row of `columns` numbers; `column` is even.
template <class T>
__device__ __forceinline__ void store_two(T* out, int row, int column, int columns, Sum first,
                                          Sum second) {
    T* const target = out + static_cast<long long>(row) * columns + column;
    if (columns % 2 == 0) {
        *reinterpret_cast<Pair<T>*>(target) = {narrow<T>(first), narrow<T>(second)};
    } else {
        target[0] = narrow<T>(first);
        if (column + 1 < columns) target[1] = narrow<T>(second);
    }
}

// sums = A B for the tile at (row, column), over depths first, ..., end - 1; in dynamic shared memory,
// which is free for other things afterwards.
template <class A, class B>
__device__ __forceinline__ void multiply(Tile& tile, A a, B b, int row, int column, int first,
                                         int end, unsigned char* shared) {
    static_assert(SHARED >= Tile::shared_bytes<A, B>(), "the stages of a tile fit");
    static_assert(SHARED >= Tile::ROW_GROUPS * Tile::COLUMNS * sizeof(Sum) &&
                      SHARED >= Tile::THREADS * sizeof(Sum),
                  "column sums fit afterwards");
    tile.multiply(a, b, row, column, first, end, shared);
}
