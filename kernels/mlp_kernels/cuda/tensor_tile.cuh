// A tile of a matrix product on tensor cores: bfloat16, float16, or float32 rounded to tf32, with
// float32 sums. Operands travel to shared memory in several stages, asynchronously; fragments are
// taken from there one instruction's depth ahead.
#pragma once
#include "elements.cuh"
#include "operand.cuh"

// A part of an operand in shared memory: LINES of LENGTH numbers.
template <class Factor, int LINES, int LENGTH, int THREADS, int BYTES>
struct SharedPart {
    using Number = typename Factor::Number;
    static constexpr int CHUNK = 16 / sizeof(Number), CHUNKS = LENGTH / CHUNK;
    static constexpr int SIZE = LINES * LENGTH;
    static_assert(CHUNKS % 4 == 0, "lines of 64 bytes or more");

    // Chunks of 16 bytes are permuted within each line, so that those which a warp reads at a time
    // lie in different banks: the same place of 8 lines for ldmatrix; 8 numbers of 4 lines, which
    // are two chunks of each, where tf32 is read number by number.
    __device__ __forceinline__ static int place(int line, int offset) {
        constexpr bool BY_NUMBER = sizeof(Number) == 4 && !Factor::along_depth;
        const int key = BY_NUMBER ? line % 4 * 2 : CHUNKS == 4 ? line / 2 % 4 : line % 8;
        return line * LENGTH + ((offset / CHUNK) ^ key) * CHUNK + offset % CHUNK;
    }

    // Starts to copy the part at (line, offset). Lines from line_end on and offsets from offset_end
    // on are 0.
    __device__ __forceinline__ static void load(Number* shared, Factor factor, int line,
                                                int offset, int line_end, int offset_end) {
        constexpr int STEP = BYTES / sizeof(Number), THREADS_OF_LINE = LENGTH / STEP;
        constexpr int AT_ONCE = THREADS / THREADS_OF_LINE;
        static_assert(THREADS % THREADS_OF_LINE == 0, "threads take whole lines");
        const int first = threadIdx.x / THREADS_OF_LINE;
        const int o = threadIdx.x % THREADS_OF_LINE * STEP;
        const bool inside = offset + o < offset_end;
        const Number* source =
            factor.data + static_cast<long long>(line + first) * factor.length + offset + o;
        const long long skip = static_cast<long long>(AT_ONCE) * factor.length;
#pragma unroll
        for (int i = 0; i < (LINES + AT_ONCE - 1) / AT_ONCE; ++i) {
            const int l = first + i * AT_ONCE;
            if (LINES % AT_ONCE != 0 && l >= LINES) break;
            const bool there = inside && line + l < line_end;
            const Number* const from = there ? source : factor.data;
            Number* const target = shared + place(l, o);
            if constexpr (BYTES >= 4) {
                copy_async<BYTES>(target, from, there);
            } else {
                *target = there ? *from : Number{};
            }
            source += skip;
        }
    }
};

template <class T, int ROWS_, int COLUMNS_, int DEPTH, int ROW_WARPS_, int COLUMN_WARPS_,
          int STAGES_, int BYTES>
struct TensorTile {
    using Sum = float;
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_;
    static constexpr int THREADS = 32 * ROW_WARPS_ * COLUMN_WARPS_;
    static constexpr int WARP_ROWS = ROWS / ROW_WARPS_, WARP_COLUMNS = COLUMNS / COLUMN_WARPS_;
    static constexpr int MY_ROWS = WARP_ROWS / 8, MY_COLUMNS = WARP_COLUMNS / 4;
    static_assert(WARP_ROWS % 16 == 0 && WARP_COLUMNS % 16 == 0, "whole fragments");

    // Results leave as runs of 16 bytes of T: the lanes of a warp take some rows at once.
    static constexpr int RUN = 16 / sizeof(T), COLUMN_RUNS = 1;
    static constexpr int LANES_OF_ROW = WARP_COLUMNS / RUN, ROWS_AT_ONCE = 32 / LANES_OF_ROW;
    static constexpr int ROW_GROUPS = ROW_WARPS_ * ROWS_AT_ONCE;
    // Numbers of a row on its way: 8 more put 4 rows into different banks.
    static constexpr int STAGED = WARP_COLUMNS + 8;

    __device__ static constexpr int shared_bytes() {
        constexpr int STAGING = THREADS / 32 * 16 * STAGED * sizeof(Sum);
        constexpr int OPERANDS = STAGES_ * (ROWS + COLUMNS) * DEPTH * sizeof(T);
        return STAGING > OPERANDS ? STAGING : OPERANDS;
    }

    // Fragments of 16 x 8 results, as multiply_add lays them out.
    float sums[WARP_ROWS / 16][WARP_COLUMNS / 8][4];

    // One of this thread's sums, in any order.
    __device__ __forceinline__ float& at(int r, int c) {
        return sums[r / 2][c / 2][r % 2 * 2 + c % 2];
    }

    // Which of the ROW_GROUPS threads with runs in the same columns this is.
    __device__ __forceinline__ static int row_group() {
        return threadIdx.x / 32 / COLUMN_WARPS_ * ROWS_AT_ONCE + threadIdx.x % 32 / LANES_OF_ROW;
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
            T* const stage = stages + step % STAGES_ * STAGE;
            load_part<PartA>(stage, a, row, depth, end);
            load_part<PartB>(stage + PartA::SIZE, b, column, depth, end);
        };
        clear();
        const int steps = (end - first + DEPTH - 1) / DEPTH;
#pragma unroll
        for (int step = 0; step < STAGES_ - 1; ++step) {
            if (step < steps) start(step);
            copy_async_commit();
        }
        copy_async_wait<STAGES_ - 2>();
        __syncthreads();
        Fragments held[2];
        held[0].template take<A, B>(stages, stages + PartA::SIZE, 0);
        for (int step = 0; step < steps; ++step) {
#pragma unroll
            for (int f = 0; f < FRAGMENTS; ++f) {
                if (f == FRAGMENTS - 1) {
                    copy_async_wait<STAGES_ - 2>();
                    __syncthreads();  // the next stage is there for all; all have taken from this
                }
                // The next fragments while these are multiplied; after the last, they are not used.
                const T* const stage = stages + (step + (f == FRAGMENTS - 1)) % STAGES_ * STAGE;
                held[(f + 1) % 2].template take<A, B>(stage, stage + PartA::SIZE,
                                                      (f + 1) % FRAGMENTS * FRAGMENT_DEPTH);
                if (f == 0) {
                    if (step + STAGES_ - 1 < steps) start(step + STAGES_ - 1);
                    copy_async_commit();
                }
                multiply_fragments(held[f % 2]);
            }
        }
        copy_async_wait<0>();
        __syncthreads();
    }

private:
    static constexpr int FRAGMENT_DEPTH = sizeof(T) == 4 ? 8 : 16;  // of one instruction

    template <class Factor, int SPAN>
    using PartOf = SharedPart<Factor, Factor::along_depth ? SPAN : DEPTH,
                              Factor::along_depth ? DEPTH : SPAN, THREADS, BYTES>;

    __device__ __forceinline__ static int group() { return threadIdx.x % 32 / 4; }
    __device__ __forceinline__ static int in_group() { return threadIdx.x % 4; }
    __device__ __forceinline__ static int first_row() {  // of this warp
        return threadIdx.x / 32 / COLUMN_WARPS_ * WARP_ROWS;
    }
    __device__ __forceinline__ static int first_column() {
        return threadIdx.x / 32 % COLUMN_WARPS_ * WARP_COLUMNS;
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

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int r = 0; r < MY_ROWS; ++r) {
#pragma unroll
            for (int c = 0; c < MY_COLUMNS; ++c) at(r, c) = 0;
        }
    }

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
            const int line = threadIdx.x % 8, low = threadIdx.x / 8 % 2, high = threadIdx.x / 16 % 2;
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
