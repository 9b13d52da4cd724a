// The sums of a tile as tensor cores leave them, and the way from there to rows of memory.
#pragma once
#include "elements.cuh"

// ROWS x COLUMNS sums in ROW_WARPS x COLUMN_WARPS warps; results are written as numbers T.
template <class T, int ROWS_, int COLUMNS_, int ROW_WARPS, int COLUMN_WARPS>
struct FragmentTile {
    using Sum = float;
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_;
    static constexpr int THREADS = 32 * ROW_WARPS * COLUMN_WARPS;
    static constexpr int WARP_ROWS = ROWS / ROW_WARPS, WARP_COLUMNS = COLUMNS / COLUMN_WARPS;
    static constexpr int MY_ROWS = WARP_ROWS / 8, MY_COLUMNS = WARP_COLUMNS / 4;
    static_assert(WARP_ROWS % 16 == 0 && WARP_COLUMNS % 16 == 0, "whole fragments");

    // Results leave as runs of 16 bytes of T: the lanes of a warp take some rows at once.
    static constexpr int RUN = 16 / sizeof(T), COLUMN_RUNS = 1;
    static constexpr int LANES_OF_ROW = WARP_COLUMNS / RUN, ROWS_AT_ONCE = 32 / LANES_OF_ROW;
    static constexpr int ROW_GROUPS = ROW_WARPS * ROWS_AT_ONCE;
    // Numbers of a row on its way: 8 more put 4 rows into different banks.
    static constexpr int STAGED = WARP_COLUMNS + 8;
    static constexpr int STAGING_BYTES = THREADS / 32 * 16 * STAGED * sizeof(Sum);

    // Fragments of 16 x 8 results, as multiply_add lays them out.
    float sums[WARP_ROWS / 16][WARP_COLUMNS / 8][4];

    // One of this thread's sums, in any order.
    __device__ __forceinline__ float& at(int r, int c) {
        return sums[r / 2][c / 2][r % 2 * 2 + c % 2];
    }

    // Which of the ROW_GROUPS threads with runs in the same columns this is.
    __device__ __forceinline__ static int row_group() {
        return threadIdx.x / 32 / COLUMN_WARPS * ROWS_AT_ONCE + threadIdx.x % 32 / LANES_OF_ROW;
    }

    // Where all runs of this thread begin: COLUMN_RUNS columns of the tile.
    __device__ __forceinline__ static int run_column(int) {
        return first_column() + threadIdx.x % LANES_OF_ROW * RUN;
    }

    // body(c, row, sums of the run at (row, run_column(c))) for each of this thread's runs, through
    // shared memory.
    template <class Body>
    __device__ __forceinline__ void for_runs(unsigned char* memory, Body body) {
        float* const staged = reinterpret_cast<float*>(memory) + threadIdx.x / 32 * 16 * STAGED;
        const int of_row = threadIdx.x % LANES_OF_ROW * RUN;
        const int first = threadIdx.x % 32 / LANES_OF_ROW;
#pragma unroll
        for (int i = 0; i < WARP_ROWS / 16; ++i) {
            __syncwarp();  // the rows before were read
#pragma unroll
            for (int j = 0; j < WARP_COLUMNS / 8; ++j) {
                float* const at = staged + group() * STAGED + j * 8 + in_group() * 2;
                store<2>(at, Pack<float, 2>{sums[i][j][0], sums[i][j][1]});
                store<2>(at + 8 * STAGED, Pack<float, 2>{sums[i][j][2], sums[i][j][3]});
            }
            __syncwarp();
#pragma unroll 1
            for (int r = first; r < 16; r += ROWS_AT_ONCE) {
                float run[RUN];
#pragma unroll
                for (int k = 0; k < RUN; k += 4) {
                    const auto piece = load<4>(staged + r * STAGED + of_row + k);
#pragma unroll
                    for (int e = 0; e < 4; ++e) run[k + e] = piece.at[e];
                }
                body(0, first_row() + i * 16 + r, run);
            }
        }
    }

protected:
    __device__ __forceinline__ static int group() { return threadIdx.x % 32 / 4; }
    __device__ __forceinline__ static int in_group() { return threadIdx.x % 4; }
    __device__ __forceinline__ static int first_row() {  // of this warp
        return threadIdx.x / 32 / COLUMN_WARPS * WARP_ROWS;
    }
    __device__ __forceinline__ static int first_column() {
        return threadIdx.x / 32 % COLUMN_WARPS * WARP_COLUMNS;
    }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int r = 0; r < MY_ROWS; ++r) {
#pragma unroll
            for (int c = 0; c < MY_COLUMNS; ++c) at(r, c) = 0;
        }
    }
};
