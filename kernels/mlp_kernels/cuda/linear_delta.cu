// out = (delta W^T) * g'(saved), and its column sums: the step from a layer to the one before it.
//
// delta (B, O), W (I, O), saved and out (B, I), db (I,). One block per tile of the result. Column
// sums go up a tree that does not depend on who comes first: rows of a thread, threads of a block
// in order, then blocks in order by the last of them. `partial` has I numbers, rounded up to tiles,
// for each row of tiles; `tickets` one for each column of tiles.
//
// Macros, besides those of product.cuh: ACTIVATION and DROPOUT of the layer before.
#include "activations.cuh"
#include "philox.cuh"
#include "product.cuh"
#include "reduce.cuh"

// Sums of groups' numbers in order: group g has its numbers at sums + g * Tile::COLUMNS.
__device__ __forceinline__ Sum sum_groups(const Sum* sums, int groups, int column) {
    Sum total = 0;
    for (int g = 0; g < groups; ++g) total += sums[g * Tile::COLUMNS + column];
    return total;
}

extern "C" __global__ void __launch_bounds__(Tile::THREADS, 1)
    linear_delta(const NUMBER* delta, const NUMBER* W, const NUMBER* saved, NUMBER* out, Sum* db,
                 Sum* partial, unsigned* tickets, int B, int I, int O, unsigned threshold,
                 double scale, int layer, const long long* counters) {
    DYNAMIC_SHARED(memory);
    const int tiles = (I + Tile::COLUMNS - 1) / Tile::COLUMNS;
    const int tiles_down = (B + Tile::ROWS - 1) / Tile::ROWS;
    const int down = blockIdx.x / tiles, across = blockIdx.x % tiles;
    const int tile_row = down * Tile::ROWS, tile_column = across * Tile::COLUMNS;
    Tile tile;
    const Operand<NUMBER, true> left{delta, B, O};
    const Operand<NUMBER, true> right{W, I, O};
    multiply(tile, left, right, tile_row, tile_column, 0, O, memory);
#if DROPOUT
    const Dropout dropout(threshold, static_cast<Sum>(scale), layer, counters);
#endif
    Sum* const sums = reinterpret_cast<Sum*>(memory);
#pragma unroll
    for (int c = 0; c < Tile::MY_COLUMNS; c += 2) {
        const int column = tile_column + tile.column(c);
        Sum total[2] = {0, 0};
#pragma unroll
        for (int r = 0; r < Tile::MY_ROWS; ++r) {
            const int row = tile_row + tile.row(r);
            if (row >= B || column >= I) continue;
            Sum value[2];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const long long at = static_cast<long long>(row) * I + column + e;
                const bool there = column + e < I;
                value[e] = tile.at(r, c + e);
#if DROPOUT
                value[e] *= dropout.factor(at);
#endif
                value[e] *= ACTIVATION::derivative(there ? widen(saved[at]) : Sum(0));
                total[e] += there ? value[e] : Sum(0);
            }
            store_two(out, row, column, I, value[0], value[1]);
        }
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            sums[tile.row_group() * Tile::COLUMNS + tile.column(c + e)] = total[e];
        }
    }
    __syncthreads();
    const int column = threadIdx.x % Tile::COLUMNS;
    const bool mine = threadIdx.x < Tile::COLUMNS && tile_column + column < I;
    if (tiles_down == 1) {
        if (mine) db[tile_column + column] = sum_groups(sums, Tile::ROW_GROUPS, column);
        return;
    }
    Sum* const of_column = partial + static_cast<long long>(across) * tiles_down * Tile::COLUMNS;
    if (mine) {
        of_column[down * Tile::COLUMNS + column] = sum_groups(sums, Tile::ROW_GROUPS, column);
    }
    if (!is_last_block(&tickets[across], tiles_down)) return;
    // Each of a few groups of threads takes a share of the rows of tiles.
    constexpr int GROUPS = Tile::THREADS / Tile::COLUMNS;
    const int group = threadIdx.x / Tile::COLUMNS, share = (tiles_down + GROUPS - 1) / GROUPS;
    const int first = group * share;
    const int count = first >= tiles_down ? 0 : min(share, tiles_down - first);
    const bool there = tile_column + column < I;
    sums[threadIdx.x] =
        there ? sum_groups(of_column + first * Tile::COLUMNS, count, column) : Sum(0);
    __syncthreads();
    if (mine) db[tile_column + column] = sum_groups(sums, GROUPS, column);
}
