// dW = x^T delta: x (B, I), delta (B, O), dW (I, O).
//
// A piece of work is a tile of dW and a share of the batch: a tall batch and a small dW would else
// leave most of the device idle. Shares are added up in order, in two levels: those of a group by
// the group's last block, and what came of the groups by the last of these. `partial` has a whole
// tile for each piece where there are several shares; `tickets` one for each group and tile, and
// one more for each tile.
#include "product.cuh"
#include "reduce.cuh"

constexpr int SHARES_OF_GROUP = 16;
constexpr int SIZE = Tile::ROWS * Tile::COLUMNS;

// body(sum, its place) for this thread's sums; a tile's numbers lie as its threads hold them.
template <class Body>
__device__ __forceinline__ void for_sums(Tile& tile, Body body) {
#pragma unroll
    for (int r = 0; r < Tile::MY_ROWS; ++r) {
#pragma unroll
        for (int c = 0; c < Tile::MY_COLUMNS; ++c) {
            body(tile.at(r, c), (r * Tile::MY_COLUMNS + c) * Tile::THREADS + threadIdx.x);
        }
    }
}

// tile = the sum of `count` tiles, in order; one begins `skip` tiles after the other.
__device__ __forceinline__ void add_up(Tile& tile, const Sum* tiles, int count, int skip) {
    for_sums(tile, [&](Sum& sum, int) { sum = 0; });
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
        const Sum* const one = tiles + static_cast<long long>(i) * skip * SIZE;
        for_sums(tile, [&](Sum& sum, int at) { sum += one[at]; });
    }
}

// Whether this block is the last of the tile's; `tile` has then the sum of all shares.
__device__ __forceinline__ bool join(Tile& tile, Sum* shares_of_tile, unsigned* tickets, int share,
                                     int shares) {
    const int groups = (shares + SHARES_OF_GROUP - 1) / SHARES_OF_GROUP;
    const int group = share / SHARES_OF_GROUP, first = group * SHARES_OF_GROUP;
    const int members = min(SHARES_OF_GROUP, shares - first);
    Sum* const of_group = shares_of_tile + static_cast<long long>(first) * SIZE;
    Sum* const mine = of_group + static_cast<long long>(share - first) * SIZE;
    for_sums(tile, [&](Sum& sum, int at) { mine[at] = sum; });
    if (!is_last_block(&tickets[1 + group], members)) return false;
    add_up(tile, of_group, members, 1);
    if (groups == 1) return true;
    for_sums(tile, [&](Sum& sum, int at) { of_group[at] = sum; });
    if (!is_last_block(&tickets[0], groups)) return false;
    add_up(tile, shares_of_tile, groups, SHARES_OF_GROUP);
    return true;
}

extern "C" __global__ void __launch_bounds__(Tile::THREADS, 1)
    linear_grads(const NUMBER* x, const NUMBER* delta, Sum* dW, Sum* partial, unsigned* tickets,
                 int B, int I, int O, int rows_per_share) {
    DYNAMIC_SHARED(memory);
    const int down = (I + Tile::ROWS - 1) / Tile::ROWS;
    const int across = (O + Tile::COLUMNS - 1) / Tile::COLUMNS, tiles = down * across;
    const int shares = (B + rows_per_share - 1) / rows_per_share;
    const int groups = (shares + SHARES_OF_GROUP - 1) / SHARES_OF_GROUP;
    const Operand<NUMBER, false> left{x, B, I};
    const Operand<NUMBER, false> right{delta, B, O};
    const bool whole = has_whole_runs(dW, O);
    in_turn(tiles * shares, [&](int number) {
        // Blocks that run at a time read the same rows of the batch.
        const int of_dW = number % tiles, share = number / tiles;
        const Place place = place_of(of_dW, down, across);
        const int tile_row = place.down * Tile::ROWS, tile_column = place.across * Tile::COLUMNS;
        const int first = share * rows_per_share;
        Tile tile;
        multiply(tile, left, right, tile_row, tile_column, first, min(first + rows_per_share, B),
                 memory);
        Sum* const of_tile = partial + static_cast<long long>(of_dW) * shares * SIZE;
        if (shares > 1 && !join(tile, of_tile, tickets + of_dW * (1 + groups), share, shares)) {
            return;
        }
        tile.for_runs(memory, [&](int c, int of_row, Sum(&sum)[Tile::RUN]) {
            const int row = tile_row + of_row, column = tile_column + tile.run_column(c);
            if (row >= I || column >= O) return;
            write_run(dW + static_cast<long long>(row) * O, column, O, whole, sum);
        });
    });
}
