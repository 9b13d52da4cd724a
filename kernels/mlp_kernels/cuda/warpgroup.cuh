// Matrix products of four warps together, which read both operands from shared memory and go on
// while the warps do something else. Compute capability 9.0 alone has them: for the target sm_90a.
//
// With intrinsics.cuh the only file with PTX in it, and replaced on a host as that is. Source: the
// PTX ISA manual, section on asynchronous warpgroup-level matrix instructions.
#pragma once
#include <intrinsics.cuh>

// The first multiple of 1024 in dynamic shared memory, where its permuted segments must begin.
__device__ __forceinline__ unsigned char* aligned_to_1024(unsigned char* memory) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(memory));
    return memory + (1024 - address % 1024) % 1024;
}

// What an instruction knows of an operand in segments of 128 bytes, whose chunks of 16 bytes are
// permuted by the number of their line mod 8. `stride` bytes lie between 8 lines and the next 8,
// and `leading` bytes between a segment of all lines and the next, where lines run across the
// depth.
__device__ __forceinline__ unsigned long long matrix_descriptor(const void* shared,
                                                                unsigned leading,
                                                                unsigned stride) {
    const unsigned long long start = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    return (start & 0x3FFFF) >> 4 | static_cast<unsigned long long>(leading >> 4) << 16 |
           static_cast<unsigned long long>(stride >> 4) << 32 | 1ull << 62;
}

// Before products: what this thread has written to shared memory, by waiting for its asynchronous
// copies too, is visible to them after the next barrier.
__device__ __forceinline__ void show_to_products() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Before the first of some products: the sums in registers are as they are meant to be.
__device__ __forceinline__ void begin_products() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// Ends a group of products.
__device__ __forceinline__ void commit_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most PENDING of the latest groups are not done.
template <int PENDING>
__device__ __forceinline__ void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// After the wait: sums are not to be read before.
__device__ __forceinline__ void read_from_here(float& sum) {
    asm volatile("" : "+f"(sum)::"memory");
}

#define SUMS_OF_FRAGMENT(j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define MULTIPLY_ADD(TYPE)                                                                       \
    asm volatile(                                                                                \
        "{ .reg .pred add; setp.ne.b32 add, 1, 0; "                                              \
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " "                         \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                \
        " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "      \
        " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "      \
        " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "     \
        "%64, %65, add, 1, 1, %66, %67; }"                                                       \
        : SUMS_OF_FRAGMENT(0), SUMS_OF_FRAGMENT(1), SUMS_OF_FRAGMENT(2), SUMS_OF_FRAGMENT(3),    \
          SUMS_OF_FRAGMENT(4), SUMS_OF_FRAGMENT(5), SUMS_OF_FRAGMENT(6), SUMS_OF_FRAGMENT(7),    \
          SUMS_OF_FRAGMENT(8), SUMS_OF_FRAGMENT(9), SUMS_OF_FRAGMENT(10), SUMS_OF_FRAGMENT(11),  \
          SUMS_OF_FRAGMENT(12), SUMS_OF_FRAGMENT(13), SUMS_OF_FRAGMENT(14), SUMS_OF_FRAGMENT(15) \
        : "l"(a), "l"(b), "n"(ACROSS_A), "n"(ACROSS_B))

// c (64x128, float32) += a (64x16) b (16x128), by the 128 threads of a warpgroup; done when waited
// for. ACROSS: 1 where an operand's lines run across the depth. Warp w of the group has rows 16 w
// to 16 w + 15; c[j] are its columns 8 j to 8 j + 7, as multiply_add of intrinsics.cuh lays them
// out.
template <int ACROSS_A, int ACROSS_B>
__device__ __forceinline__ void start_product(float (&c)[16][4], unsigned long long a,
                                              unsigned long long b, bfloat16) {
    MULTIPLY_ADD("bf16");
}

template <int ACROSS_A, int ACROSS_B>
__device__ __forceinline__ void start_product(float (&c)[16][4], unsigned long long a,
                                              unsigned long long b, float16) {
    MULTIPLY_ADD("f16");
}

#undef MULTIPLY_ADD
#undef SUMS_OF_FRAGMENT
