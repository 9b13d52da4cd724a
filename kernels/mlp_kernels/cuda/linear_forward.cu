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
    const int down = (B + Tile::ROWS - 1) / Tile::ROWS;
    const int across = (O + Tile::COLUMNS - 1) / Tile::COLUMNS;
    const Operand<NUMBER, true> left{x, B, I};
    const Operand<NUMBER, false> right{W, I, O};
#if DROPOUT
    const Dropout dropout(threshold, static_cast<Sum>(scale), layer, counters);
#endif
    const bool whole = has_whole_runs(b, O) && has_whole_runs(a, O) &&
                       (!SAVED || has_whole_runs(saved, O));
    in_turn(down * across, [&](int number) {
        const Place place = place_of(number, down, across);
        const int tile_row = place.down * Tile::ROWS, tile_column = place.across * Tile::COLUMNS;
        Tile tile;
        multiply(tile, left, right, tile_row, tile_column, 0, I, memory);
        tile.for_runs(memory, [&](int c, int of_tile, Sum(&z)[Tile::RUN]) {
            const int row = tile_row + of_tile, column = tile_column + tile.run_column(c);
            if (row >= B || column >= O) return;
            const long long first = static_cast<long long>(row) * O;
            Sum bias[Tile::RUN], out[Tile::RUN];
            read_run(b, column, O, whole, bias);
#pragma unroll
            for (int e = 0; e < Tile::RUN; ++e) {
                z[e] += bias[e];
                out[e] = ACTIVATION::forward(z[e]);
                if (!ACTIVATION::SAVES_Z) z[e] = out[e];
            }
            if (SAVED) write_run(saved + first, column, O, whole, z);
#if DROPOUT
            dropout.apply(out, first + column);
#endif
            write_run(a + first, column, O, whole, out);
        });
    });
}
