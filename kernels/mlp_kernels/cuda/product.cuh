// The tile of a product that the macros choose, in which order tiles are done, and how results
// leave.
//
// NUMBER: type of the operands. TENSOR: 1 for tensor cores, 2 for those of warpgroups. TILE_ROWS,
// TILE_COLUMNS: of the result. TILE_DEPTH: numbers of each line of an operand in shared memory at a
// time. TILE_ROW_WARPS, TILE_COLUMN_WARPS, TILE_STAGES: of a tile on tensor cores. COPY: bytes that
// travel to shared memory at a time, on tensor cores: the lines of both operands begin at multiples
// of it; 0 otherwise. SHARED: the bytes of dynamic shared memory that the launch gives. tiles.py
// has the values.
//
// A tile is a struct of ROWS x COLUMNS sums in the registers of THREADS threads. It supplies
//   shared_bytes()  that it takes of dynamic shared memory;
//   multiply()      the sums of a product of two operands (operand.cuh);
//   at(r, c)        MY_ROWS x MY_COLUMNS sums of a thread, in any order that all blocks share;
//   for_runs()      all sums of a thread as runs of RUN neighbours in a row, which begin in
//                   COLUMN_RUNS columns run_column(c), shared by ROW_GROUPS threads row_group().
// What is done with the sums, and every launch, is the same for all tiles.
#pragma once
#include "elements.cuh"
#if TENSOR == 2
#include "hopper_tile.cuh"
using Tile = HopperTile<NUMBER, TILE_ROWS, TILE_COLUMNS, TILE_DEPTH, TILE_STAGES>;
#elif TENSOR
#include "tensor_tile.cuh"
using Tile = TensorTile<NUMBER, TILE_ROWS, TILE_COLUMNS, TILE_DEPTH, TILE_ROW_WARPS,
                        TILE_COLUMN_WARPS, TILE_STAGES, COPY>;
#else
#include "plain_tile.cuh"
using Tile = PlainTile<NUMBER, TILE_ROWS, TILE_COLUMNS, TILE_DEPTH>;
#endif
using Sum = Tile::Sum;

// A run: Tile::RUN neighbours in a row. It moves in pieces of at most 16 bytes.
template <class T>
constexpr int PIECE = Tile::RUN * sizeof(T) > 16 ? 16 / sizeof(T) : Tile::RUN;

// Whether whole runs of rows of `columns` numbers can be moved so.
template <class T>
__device__ __forceinline__ bool has_whole_runs(const T* rows, int columns) {
    return columns % Tile::RUN == 0 && is_aligned<PIECE<T>>(rows);
}

// run = row[column, ...]; where the runs are not whole, 0 from `columns` on.
template <class T>
__device__ __forceinline__ void read_run(const T* row, int column, int columns, bool whole,
                                         Sum (&run)[Tile::RUN]) {
    if (whole) {
#pragma unroll
        for (int k = 0; k < Tile::RUN; k += PIECE<T>) {
            const auto piece = load<PIECE<T>>(row + column + k);
#pragma unroll
            for (int e = 0; e < PIECE<T>; ++e) run[k + e] = widen(piece.at[e]);
        }
    } else {
#pragma unroll
        for (int e = 0; e < Tile::RUN; ++e) {
            run[e] = column + e < columns ? Sum(widen(row[column + e])) : Sum(0);
        }
    }
}

// row[column, ...] = run, up to `columns`.
template <class T>
__device__ __forceinline__ void write_run(T* row, int column, int columns, bool whole,
                                          const Sum (&run)[Tile::RUN]) {
    if (whole) {
#pragma unroll
        for (int k = 0; k < Tile::RUN; k += PIECE<T>) {
            Pack<T, PIECE<T>> piece;
#pragma unroll
            for (int e = 0; e < PIECE<T>; ++e) piece.at[e] = narrow<T>(run[k + e]);
            store<PIECE<T>>(row + column + k, piece);
        }
    } else {
#pragma unroll
        for (int e = 0; e < Tile::RUN; ++e) {
            if (column + e < columns) row[column + e] = narrow<T>(run[e]);
        }
    }
}

// sums = A B for the tile at (row, column), over depths first, ..., end - 1; in dynamic shared
// memory, which is free for other things afterwards.
template <class A, class B>
__device__ __forceinline__ void multiply(Tile& tile, A a, B b, int row, int column, int first,
                                         int end, unsigned char* shared) {
    static_assert(SHARED >= Tile::shared_bytes(), "the stages of a tile fit");
    static_assert(SHARED >= Tile::ROW_GROUPS * Tile::COLUMNS * sizeof(Sum) &&
                      SHARED >= Tile::THREADS * sizeof(Sum),
                  "column sums fit afterwards");
    tile.multiply(a, b, row, column, first, end, shared);
}

// Where a tile is, counted in tiles.
struct Place {
    int down, across;
};

// Blocks that run at a time share what they read in the second-level cache: they go down so many
// rows of tiles before they go to the next column.
constexpr int ROWS_OF_TILES = 8;

__device__ __forceinline__ Place place_of(int number, int down, int across) {
    const int in_group = ROWS_OF_TILES * across, first = number / in_group * ROWS_OF_TILES;
    const int rows = min(ROWS_OF_TILES, down - first), rest = number % in_group;
    return {first + rest % rows, rest / rows};
}

// body(number) for all of `count` pieces of work that fall to this block; shared memory is free for
// each.
template <class Body>
__device__ __forceinline__ void in_turn(int count, Body body) {
    for (int number = blockIdx.x; number < count; number += gridDim.x) {
        if (number != blockIdx.x) __syncthreads();
        body(number);
    }
}
