// dW = x^T delta: x (B, I), delta (B, O), dW (I, O).
//
// One block per tile of dW and share of the batch: a tall batch and a small dW would else leave most
// of the device idle. The last block of a tile adds up the shares in order. `partial` has a whole
// tile for each block where there are several shares; `tickets` one for each tile.
#include "product.cuh"
#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(Tile::THREADS, 1)
    linear_grads(const NUMBER* x, const NUMBER* delta, Sum* dW, Sum* partial, unsigned* tickets,
                 int B, int I, int O, int rows_per_share) {
    DYNAMIC_SHARED(memory);
    const int tiles = (O + Tile::COLUMNS - 1) / Tile::COLUMNS;
    const int tile_row = blockIdx.x / tiles * Tile::ROWS;
    const int tile_column = blockIdx.x % tiles * Tile::COLUMNS;
    const int shares = gridDim.y, first = blockIdx.y * rows_per_share;
    Tile tile;
    const Operand<NUMBER, false> left{x, B, I};
    const Operand<NUMBER, false> right{delta, B, O};
    multiply(tile, left, right, tile_row, tile_column, first, min(first + rows_per_share, B), memory);
    if (shares > 1) {
        // A tile's numbers in the order in which its threads hold them.
        constexpr int SIZE = Tile::ROWS * Tile::COLUMNS;
        Sum* const of_tile =
            partial + static_cast<long long>(blockIdx.x) * shares * SIZE + threadIdx.x;
        Sum* const mine = of_tile + static_cast<long long>(blockIdx.y) * SIZE;
#pragma unroll
        for (int r = 0; r < Tile::MY_ROWS; ++r) {
#pragma unroll
            for (int c = 0; c < Tile::MY_COLUMNS; ++c) {
                mine[(r * Tile::MY_COLUMNS + c) * Tile::THREADS] = tile.at(r, c);
            }
        }
        if (!is_last_block(&tickets[blockIdx.x], shares)) return;
#pragma unroll
        for (int r = 0; r < Tile::MY_ROWS; ++r) {
#pragma unroll
            for (int c = 0; c < Tile::MY_COLUMNS; ++c) tile.at(r, c) = 0;
        }
        for (int share = 0; share < shares; ++share) {
            const Sum* const theirs = of_tile + static_cast<long long>(share) * SIZE;
#pragma unroll
            for (int r = 0; r < Tile::MY_ROWS; ++r) {
#pragma unroll
                for (int c = 0; c < Tile::MY_COLUMNS; ++c) {
                    tile.at(r, c) += theirs[(r * Tile::MY_COLUMNS + c) * Tile::THREADS];
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < Tile::MY_ROWS; ++r) {
        const int row = tile_row + tile.row(r);
#pragma unroll
        for (int c = 0; c < Tile::MY_COLUMNS; c += 2) {
            const int column = tile_column + tile.column(c);
            if (row >= I || column >= O) continue;
            store_two(dW, row, column, O, tile.at(r, c), tile.at(r, c + 1));
        }
    }
}
