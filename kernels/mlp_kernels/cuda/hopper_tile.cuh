// A tile of a matrix product of 16-bit numbers by warpgroups, for compute capability 9.0 alone:
// four warps multiply 64 rows, straight from shared memory, while the next operands are on their
// way.
//
// It supplies what product.cuh asks of a tile, so kernels and launches are those of the other
// tiles. Operands are copied by cp.async, as theirs are. The tensor memory accelerator would copy
// whole boxes by descriptors that the host makes: another `start`, other waits, two more arguments
// of a launch.
#pragma once
#include "fragments.cuh"
#include "shared_part.cuh"
#include <warpgroup.cuh>

template <class T, int ROWS, int COLUMNS, int DEPTH, int STAGES>
struct HopperTile : FragmentTile<T, ROWS, COLUMNS, ROWS / 16, 1> {
    using Base = FragmentTile<T, ROWS, COLUMNS, ROWS / 16, 1>;
    using Base::sums, Base::THREADS;
    static constexpr int WIDTH = 128;  // columns of one instruction
    static_assert(sizeof(T) == 2 && DEPTH == 64, "lines of 128 bytes along the depth");
    static_assert(ROWS % 64 == 0 && COLUMNS % WIDTH == 0, "whole instructions");
    static_assert(STAGES >= 4, "one multiplied, one about to be, two on their way or free");

    __device__ static constexpr int shared_bytes() {
        constexpr int OPERANDS = STAGES * (ROWS + COLUMNS) * DEPTH * sizeof(T) + 1024;
        return Base::STAGING_BYTES > OPERANDS ? Base::STAGING_BYTES : OPERANDS;
    }

    // sums = A B over depths first, ..., end - 1, for the tile at (row, column). Shared memory may
    // be used for other things afterwards.
    template <class A, class B>
    __device__ __forceinline__ void multiply(A a, B b, int row, int column, int first, int end,
                                             unsigned char* memory) {
        using PartA = FactorPart<A, ROWS, DEPTH, THREADS, 16, true>;
        using PartB = FactorPart<B, COLUMNS, DEPTH, THREADS, 16, true>;
        T* const stages = reinterpret_cast<T*>(aligned_to_1024(memory));
        constexpr int STAGE = PartA::SIZE + PartB::SIZE;
        auto start = [&](int step) {
            const int depth = first + step * DEPTH;
            T* const stage = stages + step % STAGES * STAGE;
            PartA::load_for(stage, a, row, depth, end);
            PartB::load_for(stage + PartA::SIZE, b, column, depth, end);
        };
        this->clear();
        const int steps = (end - first + DEPTH - 1) / DEPTH;
        const int group_row = threadIdx.x / 128 * 64;
#pragma unroll
        for (int step = 0; step < STAGES - 2; ++step) {
            if (step < steps) start(step);
            copy_async_commit();
        }
        for (int step = 0; step < steps; ++step) {
            copy_async_wait<STAGES - 3>();
            show_to_products();
            wait_for_products<1>();
            __syncthreads();  // this stage is there for all; all have done with the last but one
            const T* const stage = stages + step % STAGES * STAGE;
            begin_products();
#pragma unroll
            for (int depth = 0; depth < DEPTH; depth += 16) {
                const unsigned long long of_a = descriptor<A, PartA>(stage, group_row, depth);
#pragma unroll
                for (int c = 0; c < COLUMNS; c += WIDTH) {
                    start_product<!A::along_depth, !B::along_depth>(
                        reinterpret_cast<float(&)[WIDTH / 8][4]>(sums[0][c / 8]), of_a,
                        descriptor<B, PartB>(stage + PartA::SIZE, c, depth), T{});
                }
            }
            commit_products();
            if (step + STAGES - 2 < steps) start(step + STAGES - 2);
            copy_async_commit();
        }
        wait_for_products<0>();
#pragma unroll
        for (int c = 0; c < COLUMNS / 8; ++c) {
#pragma unroll
            for (int e = 0; e < 4; ++e) read_from_here(sums[0][c][e]);
        }
        copy_async_wait<0>();
        __syncthreads();
    }

private:
    // Of a part from row or column `place` and from `depth` on: multiples of 64 and of 16.
    template <class Factor, class Part>
    __device__ __forceinline__ static unsigned long long descriptor(const T* part, int place,
                                                                    int depth) {
        constexpr unsigned EIGHT_LINES = 8 * 128;
        if (Factor::along_depth) {  // a line is one segment
            return matrix_descriptor(part + place * DEPTH + depth, 16, EIGHT_LINES);
        }
        return matrix_descriptor(part + (place / Part::SEGMENT * DEPTH + depth) * Part::SEGMENT,
                                 DEPTH * 128, EIGHT_LINES);
    }
};
