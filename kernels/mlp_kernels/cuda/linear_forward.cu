// a = g(x W + b), and what the backward pass needs of it.
//
// x (B, I), W (I, O), b (O,), a and saved (B, O). One block per tile of the result.
//
// Macros, besides those of product.cuh: RESULT, type of a and saved; ACTIVATION; SAVED: 1 where
// there is a `saved` apart from a; DROPOUT.
#include "activations.cuh"
#include "philox.cuh"
#include "product.cuh"

using Parameter = Compute<NUMBER>;

extern "C" __global__ void __launch_bounds__(Tile::THREADS, 1)
    linear_forward(const NUMBER* x, const NUMBER* W, const Parameter* b, RESULT* a, RESULT* saved,
                   int B, int I, int O, unsigned threshold, double scale, int layer,
                   const long long* counters) {
    DYNAMIC_SHARED(memory);
    const int tiles = (O + Tile::COLUMNS - 1) / Tile::COLUMNS;
    const int tile_row = blockIdx.x / tiles * Tile::ROWS;
    const int tile_column = blockIdx.x % tiles * Tile::COLUMNS;
    Tile tile;
    const Operand<NUMBER, true> left{x, B, I};
    const Operand<NUMBER, false> right{W, I, O};
    multiply(tile, left, right, tile_row, tile_column, 0, I, memory);
#if DROPOUT
    const Dropout dropout(threshold, static_cast<Sum>(scale), layer, counters);
#endif
#pragma unroll
    for (int c = 0; c < Tile::MY_COLUMNS; c += 2) {
        const int column = tile_column + tile.column(c);
        if (column >= O) continue;
        const Sum bias[2] = {b[column], column + 1 < O ? b[column + 1] : Sum(0)};
#pragma unroll
        for (int r = 0; r < Tile::MY_ROWS; ++r) {
            const int row = tile_row + tile.row(r);
            if (row >= B) continue;
            Sum kept[2], out[2];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const Sum z = tile.at(r, c + e) + bias[e];
                out[e] = ACTIVATION::forward(z);
                kept[e] = ACTIVATION::SAVES_Z ? z : out[e];
#if DROPOUT
                out[e] *= dropout.factor(static_cast<long long>(row) * O + column + e);
#endif
            }
            store_two(a, row, column, O, out[0], out[1]);
            if (SAVED) store_two(saved, row, column, O, kept[0], kept[1]);
        }
    }
}
