// A tile of a matrix product on tensor cores: bfloat16, float16, or float32 rounded to tf32, with
// float32 sums. Operands travel to shared memory in several stages, asynchronously; fragments are
// taken from there one instruction's depth ahead.
#pragma once
#include "fragments.cuh"
#include "shared_part.cuh"

template <class T, int ROWS, int COLUMNS, int DEPTH, int ROW_WARPS, int COLUMN_WARPS, int STAGES,
          int BYTES>
struct TensorTile : FragmentTile<T, ROWS, COLUMNS, ROW_WARPS, COLUMN_WARPS> {
    using Base = FragmentTile<T, ROWS, COLUMNS, ROW_WARPS, COLUMN_WARPS>;
    using Base::sums, Base::THREADS, Base::WARP_ROWS, Base::WARP_COLUMNS;

    __device__ static constexpr int shared_bytes() {
        constexpr int OPERANDS = STAGES * (ROWS + COLUMNS) * DEPTH * sizeof(T);
        return Base::STAGING_BYTES > OPERANDS ? Base::STAGING_BYTES : OPERANDS;
    }

    // sums = A B over depths first, ..., end - 1, for the tile at (row, column). Shared memory may
    // be used for other things afterwards.
    template <class A, class B>
    __device__ __forceinline__ void multiply(A a, B b, int row, int column, int first, int end,
                                             unsigned char* memory) {
        using PartA = PartOf<A, ROWS>;
        using PartB = PartOf<B, COLUMNS>;
        T* const stages = reinterpret_cast<T*>(memory);
        constexpr int STAGE = PartA::SIZE + PartB::SIZE, FRAGMENTS = DEPTH / FRAGMENT_DEPTH;
        static_assert(FRAGMENTS % 2 == 0, "a stage begins and ends with the same fragments");
        auto start = [&](int step) {
            const int depth = first + step * DEPTH;
            T* const stage = stages + step % STAGES * STAGE;
            PartA::load_for(stage, a, row, depth, end);
            PartB::load_for(stage + PartA::SIZE, b, column, depth, end);
        };
        this->clear();
        const int steps = (end - first + DEPTH - 1) / DEPTH;
#pragma unroll
        for (int step = 0; step < STAGES - 1; ++step) {
            if (step < steps) start(step);
            copy_async_commit();
        }
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        Fragments held[2];
        held[0].template take<A, B>(stages, stages + PartA::SIZE, 0);
        for (int step = 0; step < steps; ++step) {
#pragma unroll
            for (int f = 0; f < FRAGMENTS; ++f) {
                if (f == FRAGMENTS - 1) {
                    copy_async_wait<STAGES - 2>();
                    __syncthreads();  // the next stage is there for all; all have taken from this
                }
                // The next fragments while these are multiplied; after the last, they are not used.
                const T* const stage = stages + (step + (f == FRAGMENTS - 1)) % STAGES * STAGE;
                held[(f + 1) % 2].template take<A, B>(stage, stage + PartA::SIZE,
                                                      (f + 1) % FRAGMENTS * FRAGMENT_DEPTH);
                if (f == 0) {
                    if (step + STAGES - 1 < steps) start(step + STAGES - 1);
                    copy_async_commit();
                }
                multiply_fragments(held[f % 2]);
            }
        }
        copy_async_wait<0>();
        __syncthreads();
    }

private:
    using Base::first_column, Base::first_row, Base::group, Base::in_group;
    static constexpr int FRAGMENT_DEPTH = sizeof(T) == 4 ? 8 : 16;  // of one instruction

    template <class Factor, int SPAN>
    using PartOf = FactorPart<Factor, SPAN, DEPTH, THREADS, BYTES>;

    // What a warp multiplies in one instruction's depth, as multiply_add lays it out.
    struct Fragments {
        unsigned a[WARP_ROWS / 16][4], b[WARP_COLUMNS / 8][2];

        template <class A, class B>
        __device__ __forceinline__ void take(const T* part_a, const T* part_b, int depth) {
#pragma unroll
            for (int i = 0; i < WARP_ROWS / 16; ++i) {
                take_four<PartOf<A, ROWS>, A::along_depth, true>(a[i], part_a,
                                                                 first_row() + i * 16, depth);
            }
#pragma unroll
            for (int j = 0; j < WARP_COLUMNS / 8; j += 2) {  // two fragments at a time
                unsigned both[4];
                take_four<PartOf<B, COLUMNS>, B::along_depth, false>(
                    both, part_b, first_column() + j * 8, depth);
                b[j][0] = both[0], b[j][1] = both[1];
                b[j + 1][0] = both[2], b[j + 1][1] = both[3];
            }
        }

        // The quarters of 16 places (rows or columns) by one instruction's depth: 8 places and half
        // the depth each, first the other places or first the other depths.
        template <class Part, bool ALONG_DEPTH, bool PLACES_FIRST>
        __device__ __forceinline__ static void take_four(unsigned (&four)[4], const T* part,
                                                         int place, int depth) {
            constexpr int HALF = FRAGMENT_DEPTH / 2;
            // Whose line of which quarter this lane names.
            const int line = threadIdx.x % 8;
            const int low = threadIdx.x / 8 % 2, high = threadIdx.x / 16 % 2;
            const int p = place + (PLACES_FIRST ? low : high) * 8;
            const int d = depth + (PLACES_FIRST ? high : low) * HALF;
            if constexpr (ALONG_DEPTH) {
                load_matrices(four, part + Part::place(p + line, d));
            } else if constexpr (sizeof(T) == 2) {
                load_matrices_transposed(four, part + Part::place(d + line, p));
            } else {  // no instruction transposes numbers of 32 bits
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const int q = place + (PLACES_FIRST ? e % 2 : e / 2) * 8 + group();
                    const int at = depth + (PLACES_FIRST ? e / 2 : e % 2) * HALF + in_group();
                    four[e] = __float_as_uint(part[Part::place(at, q)]);
                }
            }
            if constexpr (sizeof(T) == 4) {
#pragma unroll
                for (int e = 0; e < 4; ++e) four[e] = to_tf32(__uint_as_float(four[e]));
            }
        }
    };

    __device__ __forceinline__ void multiply_fragments(const Fragments& held) {
#pragma unroll
        for (int i = 0; i < WARP_ROWS / 16; ++i) {
#pragma unroll
            for (int j = 0; j < WARP_COLUMNS / 8; ++j) {
                if constexpr (sizeof(T) == 4) {
                    multiply_add_tf32(sums[i][j], held.a[i], held.b[j]);
                } else {
                    multiply_add(sums[i][j], held.a[i], held.b[j], T{});
                }
            }
        }
    }
};
