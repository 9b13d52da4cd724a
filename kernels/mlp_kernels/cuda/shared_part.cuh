// A part of a factor on its way to the tensor cores: copied asynchronously, and laid out so that a
// warp reads it without conflicts.
#pragma once
#include "numbers.cuh"
#include "operand.cuh"

// A part of an operand in shared memory: LINES of LENGTH numbers. Where it is SEGMENTED, lines are
// cut into segments of 128 bytes, and a segment of all lines comes before the next, as wgmma asks.
template <class Factor, int LINES, int LENGTH, int THREADS, int BYTES, bool SEGMENTED>
struct SharedPart {
    using Number = typename Factor::Number;
    static constexpr int SIZE = LINES * LENGTH;
    static constexpr int CHUNK = 16 / sizeof(Number), CHUNKS = LENGTH / CHUNK;
    static constexpr int SEGMENT = 8 * CHUNK;
    static_assert(CHUNKS % 8 == 0 || (CHUNKS == 4 && !SEGMENTED), "lines of 64 bytes or more");

    // Chunks of 16 bytes are permuted within each 128 bytes, so that those which a warp reads at a
    // time lie in different banks: the same place of 8 lines for ldmatrix and for wgmma; 8 numbers
    // of 4 lines, which are two chunks of each, where tf32 is read number by number.
    __device__ __forceinline__ static int place(int line, int offset) {
        constexpr bool BY_NUMBER = sizeof(Number) == 4 && !Factor::along_depth;
        const int key = BY_NUMBER ? line % 4 * 2 : CHUNKS == 4 ? line / 2 % 4 : line % 8;
        if constexpr (SEGMENTED) {
            line += offset / SEGMENT * LINES;
            offset %= SEGMENT;
        }
        return line * (SEGMENTED ? SEGMENT : LENGTH) + ((offset / CHUNK) ^ key) * CHUNK +
               offset % CHUNK;
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

// The part of a factor that a tile needs for DEPTH depths of SPAN rows or columns.
template <class Factor, int SPAN, int DEPTH, int THREADS, int BYTES, bool SEGMENTED = false>
struct FactorPart
    : SharedPart<Factor, Factor::along_depth ? SPAN : DEPTH, Factor::along_depth ? DEPTH : SPAN,
                 THREADS, BYTES, SEGMENTED> {
    // Starts to copy it, from row or column `place` and from `depth` on.
    __device__ __forceinline__ static void load_for(typename Factor::Number* shared, Factor factor,
                                                    int place, int depth, int depth_end) {
        if (Factor::along_depth) {
            FactorPart::load(shared, factor, place, depth, factor.lines, depth_end);
        } else {
            FactorPart::load(shared, factor, depth, place, depth_end, factor.length);
        }
    }
};
