// A tile of a matrix product on tensor cores: bfloat16, float16, or float32 rounded to tf32, with
// float32 sums. Operands travel to shared memory in several stages, asynchronously.
#pragma once
#include "numbers.cuh"
#include "operand.cuh"

// A part of an operand in shared memory: LINES of LENGTH numbers.
template <class Factor, int LINES, int LENGTH, int THREADS, int BYTES>
struct SharedPart {
    using Number = typename Factor::Number;
    // Padded so that what a warp reads at a time lies in different banks: rows of 16 bytes for
    // ldmatrix, and for tf32 single numbers of 4 depths and 8 rows or columns.
    static constexpr int STRIDE =
        LENGTH + (sizeof(Number) == 4 && Factor::along_depth ? 4 : 8);
    static constexpr int SIZE = LINES * STRIDE;
    static constexpr int STEP = BYTES / sizeof(Number), COPIES = LINES * (LENGTH / STEP);

    // Starts to copy the part at (line, offset). Lines from line_end on and offsets from offset_end
    // on are 0.
    __device__ __forceinline__ static void load(Number* shared, Factor factor, int line,
                                                int offset, int line_end, int offset_end) {
#pragma unroll
        for (int i = threadIdx.x; i < COPIES; i += THREADS) {
            const int l = i / (LENGTH / STEP), o = i % (LENGTH / STEP) * STEP;
            const bool there = line + l < line_end && offset + o < offset_end;
            const long long at = static_cast<long long>(line + l) * factor.length + offset + o;
            const Number* const source = there ? factor.data + at : factor.data;
            Number* const target = shared + l * STRIDE + o;
            if constexpr (BYTES >= 4) {
                copy_async<BYTES>(target, source, there);
            } else {
                *target = there ? *source : Number{};
            }
        }
    }
};

template <class T, int ROWS_, int COLUMNS_, int DEPTH, int ROW_WARPS, int COLUMN_WARPS, int STAGES,
          int BYTES>
struct TensorTile {
    using Sum = float;
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_;
    static constexpr int THREADS = 32 * ROW_WARPS * COLUMN_WARPS, ROW_GROUPS = 8 * ROW_WARPS;
    static constexpr int WARP_ROWS = ROWS / ROW_WARPS, WARP_COLUMNS = COLUMNS / COLUMN_WARPS;
    static constexpr int MY_ROWS = WARP_ROWS / 8, MY_COLUMNS = WARP_COLUMNS / 4;
    static_assert(WARP_ROWS % 16 == 0 && WARP_COLUMNS % 16 == 0, "whole fragments");

    template <class Factor, int SPAN>
    using PartOf = SharedPart<Factor, Factor::along_depth ? SPAN : DEPTH,
                              Factor::along_depth ? DEPTH : SPAN, THREADS, BYTES>;
    template <class A, class B>
    __device__ static constexpr int shared_bytes() {
        return STAGES * (PartOf<A, ROWS>::SIZE + PartOf<B, COLUMNS>::SIZE) * sizeof(T);
    }

    // Fragments of 16 x 8 results, as multiply_add lays them out.
    float sums[WARP_ROWS / 16][WARP_COLUMNS / 8][4];

    // Which of the ROW_GROUPS threads with the same columns this is.
    __device__ __forceinline__ static int row_group() {
        return threadIdx.x / 32 / COLUMN_WARPS * 8 + group();
    }

    // Places in the tile of this thread's rows and columns.
    __device__ __forceinline__ static int row(int r) { return first_row() + r * 8 + group(); }
    __device__ __forceinline__ static int column(int c) {
        return first_column() + c / 2 * 8 + threadIdx.x % 4 * 2 + c % 2;
    }

    __device__ __forceinline__ float& at(int r, int c) {
        return sums[r / 2][c / 2][r % 2 * 2 + c % 2];
    }

    // sums = A B over depths first, ..., end - 1, for the tile at (row, column). Shared memory may
    // be used for other things afterwards.
    template <class A, class B>
    __device__ __forceinline__ void multiply(A a, B b, int row, int column, int first, int end,
                                             unsigned char* memory) {
        using PartA = PartOf<A, ROWS>;
        using PartB = PartOf<B, COLUMNS>;
        T* const stages = reinterpret_cast<T*>(memory);
        constexpr int STAGE = PartA::SIZE + PartB::SIZE;
        auto load = [&](int step) {
            const int depth = first + step * DEPTH;
            T* const stage = stages + step % STAGES * STAGE;
            load_part<PartA>(stage, a, row, depth, end);
            load_part<PartB>(stage + PartA::SIZE, b, column, depth, end);
        };
#pragma unroll
        for (int i = 0; i < WARP_ROWS / 16; ++i) {
#pragma unroll
            for (int j = 0; j < WARP_COLUMNS / 8; ++j) {
#pragma unroll
                for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
            }
        }
        const int steps = (end - first + DEPTH - 1) / DEPTH;
#pragma unroll
        for (int step = 0; step < STAGES - 1; ++step) {
            if (step < steps) load(step);
            copy_async_commit();
        }
        for (int step = 0; step < steps; ++step) {
            copy_async_wait<STAGES - 2>();
            __syncthreads();  // this stage is there for all, and the one before is done with
            if (step + STAGES - 1 < steps) load(step + STAGES - 1);
            copy_async_commit();
            T* const stage = stages + step % STAGES * STAGE;
            multiply_stage<A, B>(stage, stage + PartA::SIZE);
        }
        copy_async_wait<0>();
        __syncthreads();
    }

private:
    __device__ __forceinline__ static int group() { return threadIdx.x % 32 / 4; }
    __device__ __forceinline__ static int first_row() {  // of this warp
        return threadIdx.x / 32 / COLUMN_WARPS * WARP_ROWS;
    }
    __device__ __forceinline__ static int first_column() {
        return threadIdx.x / 32 % COLUMN_WARPS * WARP_COLUMNS;
    }

    template <class Part, class Factor>
    __device__ __forceinline__ static void load_part(T* shared, Factor factor, int place, int depth,
                                                     int depth_end) {
        if (Factor::along_depth) {
            Part::load(shared, factor, place, depth, factor.lines, depth_end);
        } else {
            Part::load(shared, factor, depth, place, depth_end, factor.length);
        }
    }

    template <class A, class B>
    __device__ __forceinline__ void multiply_stage(const T* a, const T* b) {
        constexpr int FRAGMENT = sizeof(T) == 4 ? 8 : 16;  // depths of one instruction
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += FRAGMENT) {
            unsigned part_a[WARP_ROWS / 16][4], part_b[WARP_COLUMNS / 8][2];
            if constexpr (sizeof(T) == 4) {
                take_numbers<A, B>(part_a, part_b, a, b, depth);
            } else {
                take_matrices<A, B>(part_a, part_b, a, b, depth);
            }
#pragma unroll
            for (int i = 0; i < WARP_ROWS / 16; ++i) {
#pragma unroll
                for (int j = 0; j < WARP_COLUMNS / 8; ++j) {
                    if constexpr (sizeof(T) == 4) {
                        multiply_add_tf32(sums[i][j], part_a[i], part_b[j]);
                    } else {
                        multiply_add(sums[i][j], part_a[i], part_b[j], T{});
                    }
                }
            }
        }
    }

    using PartsA = unsigned[WARP_ROWS / 16][4];
    using PartsB = unsigned[WARP_COLUMNS / 8][2];

    // 16-bit: four 8x8 matrices at once, transposed on the way where lines are depths.
    template <class A, class B>
    __device__ __forceinline__ static void take_matrices(PartsA& part_a, PartsB& part_b, const T* a,
                                                         const T* b, int depth) {
        constexpr int STRIDE_A = PartOf<A, ROWS>::STRIDE, STRIDE_B = PartOf<B, COLUMNS>::STRIDE;
        const int lane = threadIdx.x % 32, line = lane % 8, second = lane / 8 % 2, third = lane / 16;
#pragma unroll
        for (int i = 0; i < WARP_ROWS / 16; ++i) {
            // In the fragment's order: rows 0-7, rows 8-15, and both again 8 depths on.
            const int r = first_row() + i * 16 + second * 8, d = depth + third * 8;
            if (A::along_depth) {
                load_matrices(part_a[i], a + (r + line) * STRIDE_A + d);
            } else {
                load_matrices_transposed(part_a[i], a + (d + line) * STRIDE_A + r);
            }
        }
#pragma unroll
        for (int j = 0; j < WARP_COLUMNS / 8; j += 2) {
            // Two fragments: columns 0-7 at depths 0-7 and 8-15, then columns 8-15.
            const int c = first_column() + j * 8 + third * 8, d = depth + second * 8;
            unsigned both[4];
            if (B::along_depth) {
                load_matrices(both, b + (c + line) * STRIDE_B + d);
            } else {
                load_matrices_transposed(both, b + (d + line) * STRIDE_B + c);
            }
            part_b[j][0] = both[0], part_b[j][1] = both[1];
            part_b[j + 1][0] = both[2], part_b[j + 1][1] = both[3];
        }
    }

    // tf32: number by number, rounded on the way.
    template <class A, class B>
    __device__ __forceinline__ static void take_numbers(PartsA& part_a, PartsB& part_b, const T* a,
                                                        const T* b, int depth) {
        const int t = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < WARP_ROWS / 16; ++i) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                part_a[i][e] = number<A, ROWS>(a, row(2 * i + e % 2), depth + t + e / 2 * 4);
            }
        }
#pragma unroll
        for (int j = 0; j < WARP_COLUMNS / 8; ++j) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int c = first_column() + j * 8 + group();
                part_b[j][e] = number<B, COLUMNS>(b, c, depth + t + e * 4);
            }
        }
    }

    template <class Factor, int SPAN>
    __device__ __forceinline__ static unsigned number(const float* part, int place, int depth) {
        constexpr int STRIDE = PartOf<Factor, SPAN>::STRIDE;
        return to_tf32(
            part[Factor::along_depth ? place * STRIDE + depth : depth * STRIDE + place]);
    }
};
