// Sums of weights' gradients, in units of 32 inputs by 16 outputs: 16 numbers of each lane.
//
// FRAGMENTS: whether they lie in their unit as multiply_add lays out two by two fragments.
#pragma once

constexpr int UNIT_ROWS = 32, UNIT_COLUMNS = 16, UNIT = UNIT_ROWS * UNIT_COLUMNS;

// Where in its unit a lane's number e is.
__device__ __forceinline__ int unit_row(int e, int lane) {
#if FRAGMENTS
    return e / 8 * 16 + e % 4 / 2 * 8 + lane / 4;
#else
    return lane / 4 * 4 + e / 4;
#endif
}
__device__ __forceinline__ int unit_column(int e, int lane) {
#if FRAGMENTS
    return e / 4 % 2 * 8 + lane % 4 * 2 + e % 2;
#else
    return lane % 4 * 4 + e % 4;
#endif
}
