// A tile of a matrix product by ordinary multiply-adds: exact float32, float64, and 16-bit numbers
// where there are no tensor cores for them. 16 x 16 threads; each sums a few rows and columns.
#pragma once
#include "numbers.cuh"
#include "operand.cuh"

template <class C, int COUNT>
struct alignas(COUNT * sizeof(C) < 16 ? COUNT * sizeof(C) : 16) Several {
    C x[COUNT];
};

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
    template <class A, class B>
    __device__ static constexpr int shared_bytes() {
        return 2 * STAGE * sizeof(Sum);
    }

    Sum sums[MY_ROWS][MY_COLUMNS];

    // Which of the ROW_GROUPS threads with the same columns this is.
    __device__ __forceinline__ static int row_group() { return threadIdx.x / 16; }

    // Places in the tile of this thread's rows and columns.
    __device__ __forceinline__ static int row(int r) {
        return r / ROW_RUN * 16 * ROW_RUN + threadIdx.x / 16 * ROW_RUN + r % ROW_RUN;
    }
    __device__ __forceinline__ static int column(int c) {
        return c / COLUMN_RUN * 16 * COLUMN_RUN + threadIdx.x % 16 * COLUMN_RUN + c % COLUMN_RUN;
    }

    __device__ __forceinline__ Sum& at(int r, int c) { return sums[r][c]; }

    // sums = A B over depths first, ..., end - 1, for the tile at (row, column). Shared memory may be
    // used for other things afterwards.
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
        using RowRun = Several<Sum, ROW_RUN>;
        using ColumnRun = Several<Sum, COLUMN_RUN>;
#pragma unroll
        for (int d = 0; d < DEPTH; ++d) {
            const Sum* const line_a = stage + d * A_STRIDE;
            const Sum* const line_b = stage + DEPTH * A_STRIDE + d * B_STRIDE;
            alignas(16) Sum a[MY_ROWS];
            alignas(16) Sum b[MY_COLUMNS];
#pragma unroll
            for (int r = 0; r < MY_ROWS; r += ROW_RUN) {
                *reinterpret_cast<RowRun*>(a + r) =
                    *reinterpret_cast<const RowRun*>(line_a + row(r));
            }
#pragma unroll
            for (int c = 0; c < MY_COLUMNS; c += COLUMN_RUN) {
                *reinterpret_cast<ColumnRun*>(b + c) =
                    *reinterpret_cast<const ColumnRun*>(line_b + column(c));
            }
#pragma unroll
            for (int r = 0; r < MY_ROWS; ++r) {
#pragma unroll
                for (int c = 0; c < MY_COLUMNS; ++c) sums[r][c] += a[r] * b[c];
            }
        }
    }
};
