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
    const int down = (B + Tile::ROWS - 1) / Tile::ROWS;
    const int across = (I + Tile::COLUMNS - 1) / Tile::COLUMNS;
    const Operand<NUMBER, true> left{delta, B, O};
    const Operand<NUMBER, true> right{W, I, O};
#if DROPOUT
    const Dropout dropout(threshold, static_cast<Sum>(scale), layer, counters);
#endif
    const bool whole = has_whole_runs(saved, I) && has_whole_runs(out, I);
    in_turn(down * across, [&](int number) {
        const Place place = place_of(number, down, across);
        const int tile_row = place.down * Tile::ROWS, tile_column = place.across * Tile::COLUMNS;
        Tile tile;
        multiply(tile, left, right, tile_row, tile_column, 0, O, memory);
        Sum total[Tile::COLUMN_RUNS][Tile::RUN] = {};
        tile.for_runs(memory, [&](int c, int of_tile, Sum(&value)[Tile::RUN]) {
            const int row = tile_row + of_tile, column = tile_column + tile.run_column(c);
            if (row >= B || column >= I) return;
            const long long first = static_cast<long long>(row) * I;
            Sum kept[Tile::RUN];
            read_run(saved + first, column, I, whole, kept);
#if DROPOUT
            dropout.apply(value, first + column);
#endif
#pragma unroll
            for (int e = 0; e < Tile::RUN; ++e) {
                value[e] *= ACTIVATION::derivative(kept[e]);
                total[c][e] += value[e];  // beyond I it is read by nobody
            }
            write_run(out + first, column, I, whole, value);
        });
        Sum* const sums = reinterpret_cast<Sum*>(memory);
        __syncthreads();
#pragma unroll
        for (int c = 0; c < Tile::COLUMN_RUNS; ++c) {
#pragma unroll
            for (int e = 0; e < Tile::RUN; ++e) {
                sums[tile.row_group() * Tile::COLUMNS + tile.run_column(c) + e] = total[c][e];
            }
        }
        __syncthreads();
        const int column = threadIdx.x % Tile::COLUMNS;
        const bool there = tile_column + column < I;
        const bool mine = there && threadIdx.x < Tile::COLUMNS;
        if (down == 1) {
            if (mine) db[tile_column + column] = sum_groups(sums, Tile::ROW_GROUPS, column);
            return;
        }
        const long long skip = static_cast<long long>(place.across) * down * Tile::COLUMNS;
        Sum* const of_column = partial + skip;
        if (mine) {
            of_column[place.down * Tile::COLUMNS + column] =
                sum_groups(sums, Tile::ROW_GROUPS, column);
        }
        if (!is_last_block(&tickets[place.across], down)) return;
        // Each of a few groups of threads takes a share of the rows of tiles.
        constexpr int GROUPS = Tile::THREADS / Tile::COLUMNS;
        const int group = threadIdx.x / Tile::COLUMNS, share = (down + GROUPS - 1) / GROUPS;
        const int first = group * share;
        const int count = first >= down ? 0 : min(share, down - first);
        sums[threadIdx.x] =
            there ? sum_groups(of_column + first * Tile::COLUMNS, count, column) : Sum(0);
        __syncthreads();
        if (mine) db[tile_column + column] = sum_groups(sums, GROUPS, column);
    });
}
