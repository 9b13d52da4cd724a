// A tile of a matrix product by ordinary multiply-adds: exact float32, float64, and 16-bit numbers
// where there are no tensor cores for them. 16 x 16 threads; each sums a few rows and columns.
#pragma once
#include "elements.cuh"
#include "operand.cuh"

template <class T, int ROWS_, int COLUMNS_, int DEPTH>
struct PlainTile {
    using Sum = Compute<T>;
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, THREADS = 256, ROW_GROUPS = 16;
    static constexpr int MY_ROWS = ROWS / 16, MY_COLUMNS = COLUMNS / 16;
    // Rows and columns of a thread come in runs, which are one access to shared memory each.
    static constexpr int ROW_RUN = MY_ROWS < 4 ? MY_ROWS : 4;
    static constexpr int COLUMN_RUN = MY_COLUMNS < 4 ? MY_COLUMNS : 4;
    // The padding keeps runs aligned, and spreads a transposed store over the banks.
    static constexpr int A_STRIDE = ROWS + 4, B_STRIDE = COLUMNS + 4;
    static constexpr int STAGE = DEPTH * (A_STRIDE + B_STRIDE);
    __device__ static constexpr int shared_bytes() { return 2 * STAGE * sizeof(Sum); }

    // Results leave as the runs in which a thread has them.
    static constexpr int RUN = COLUMN_RUN, COLUMN_RUNS = MY_COLUMNS / RUN;

    Sum sums[MY_ROWS][MY_COLUMNS];

    // Which of the ROW_GROUPS threads with runs in the same columns this is.
    __device__ __forceinline__ static int row_group() { return threadIdx.x / 16; }

    // Where this thread's runs begin: COLUMN_RUNS columns of the tile.
    __device__ __forceinline__ static int run_column(int c) {
        return (c * 16 + threadIdx.x % 16) * COLUMN_RUN;
    }

    // One of this thread's sums, in any order.
    __device__ __forceinline__ Sum& at(int r, int c) { return sums[r][c]; }

    // body(c, row, sums of the run at (row, run_column(c))) for each of this thread's runs.
    template <class Body>
    __device__ __forceinline__ void for_runs(unsigned char*, Body body) {
#pragma unroll
        for (int c = 0; c < COLUMN_RUNS; ++c) {
#pragma unroll
            for (int r = 0; r < MY_ROWS; ++r) {
                Sum run[RUN];
#pragma unroll
                for (int e = 0; e < RUN; ++e) run[e] = sums[r][c * RUN + e];
                body(c, row(r), run);
            }
        }
    }

    // sums = A B over depths first, ..., end - 1, for the tile at (row, column). Shared memory may
    // be used for other things afterwards.
    template <class A, class B>
    __device__ __forceinline__ void multiply(A a, B b, int row, int column, int first, int end,
                                             unsigned char* memory) {
        Sum* const stages = reinterpret_cast<Sum*>(memory);
#pragma unroll
        for (int r = 0; r < MY_ROWS; ++r) {
#pragma unroll
            for (int c = 0; c < MY_COLUMNS; ++c) sums[r][c] = 0;
        }
        Part<A, ROWS, A_STRIDE> part_a;
        Part<B, COLUMNS, B_STRIDE> part_b;
        part_a.fetch(a, row, first, end);
        part_b.fetch(b, column, first, end);
        Sum* stage = stages;
        for (int depth = first; depth < end; depth += DEPTH) {
            part_a.store(stage);
            part_b.store(stage + DEPTH * A_STRIDE);
            __syncthreads();
            if (depth + DEPTH < end) {  // on its way while this one is used
                part_a.fetch(a, row, depth + DEPTH, end);
                part_b.fetch(b, column, depth + DEPTH, end);
            }
            multiply_stage(stage);
            stage = stage == stages ? stages + STAGE : stages;
        }
        __syncthreads();
    }

private:
    // The row of the tile in which this thread's r-th is.
    __device__ __forceinline__ static int row(int r) {
        return r / ROW_RUN * 16 * ROW_RUN + threadIdx.x / 16 * ROW_RUN + r % ROW_RUN;
    }

    // One thread's share of DEPTH depths of SPAN rows or columns, on its way to shared memory.
    template <class Factor, int SPAN, int STRIDE>
    struct Part {
        using Number = typename Factor::Number;
        static constexpr int SHARE = SPAN * DEPTH / THREADS;
        static_assert(SHARE * THREADS == SPAN * DEPTH, "a tile is shared out evenly");
        Number held[SHARE];

        // Neighbouring threads take neighbouring numbers of a line.
        __device__ __forceinline__ static int place(int i) {
            const int n = i * THREADS + threadIdx.x;
            return Factor::along_depth ? n / DEPTH : n % SPAN;
        }

        __device__ __forceinline__ static int depth(int i) {
            const int n = i * THREADS + threadIdx.x;
            return Factor::along_depth ? n % DEPTH : n / SPAN;
        }

        __device__ __forceinline__ void fetch(Factor factor, int first_place, int first, int end) {
#pragma unroll
            for (int i = 0; i < SHARE; ++i) {
                const int p = first_place + place(i), d = first + depth(i);
                const int line = Factor::along_depth ? p : d, offset = Factor::along_depth ? d : p;
                const bool there = d < end && line < factor.lines && offset < factor.length;
                const long long at = static_cast<long long>(line) * factor.length + offset;
                held[i] = there ? factor.data[at] : Number{};
            }
        }

        __device__ __forceinline__ void store(Sum* stage) const {
#pragma unroll
            for (int i = 0; i < SHARE; ++i) stage[depth(i) * STRIDE + place(i)] = widen(held[i]);
        }
    };

    __device__ __forceinline__ void multiply_stage(const Sum* stage) {
#pragma unroll
        for (int d = 0; d < DEPTH; ++d) {
            const Sum* const line_a = stage + d * A_STRIDE;
            const Sum* const line_b = stage + DEPTH * A_STRIDE + d * B_STRIDE;
            Sum a[MY_ROWS], b[MY_COLUMNS];
#pragma unroll
            for (int r = 0; r < MY_ROWS; r += ROW_RUN) take<ROW_RUN>(a + r, line_a + row(r));
#pragma unroll
            for (int c = 0; c < MY_COLUMNS; c += COLUMN_RUN) {
                take<COLUMN_RUN>(b + c, line_b + run_column(c / COLUMN_RUN));
            }
#pragma unroll
            for (int r = 0; r < MY_ROWS; ++r) {
#pragma unroll
                for (int c = 0; c < MY_COLUMNS; ++c) sums[r][c] += a[r] * b[c];
            }
        }
    }

    // N numbers from shared memory, by at most 16 bytes at a time.
    template <int N>
    __device__ __forceinline__ static void take(Sum* to, const Sum* from) {
        constexpr int PIECE = N * sizeof(Sum) > 16 ? 16 / sizeof(Sum) : N;
#pragma unroll
        for (int k = 0; k < N; k += PIECE) {
            const auto piece = load<PIECE>(from + k);
#pragma unroll
            for (int e = 0; e < PIECE; ++e) to[k + e] = piece.at[e];
        }
    }
};
