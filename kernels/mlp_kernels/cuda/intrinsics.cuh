// What the kernels need beyond C++: 16-bit numbers, asynchronous copies and tensor-core
// instructions.
//
// With warpgroup.cuh the only file with PTX in it. The kernels include it as <intrinsics.cuh>, so
// that a build for another machine can put a file of the same name first: tests/cuda_host has one
// in plain C++. Source: the PTX ISA manual, sections on cp.async, ldmatrix, mma and cvt.
#pragma once

// 16-bit numbers as they lie in memory. No CUDA header is included anywhere, so none is needed to
// compile: both types are bits, and all arithmetic is done in float.
struct bfloat16 {
    unsigned short bits;
};
struct float16 {
    unsigned short bits;
};

__device__ __forceinline__ float to_float(bfloat16 x) {
    return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

__device__ __forceinline__ float to_float(float16 x) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
    return result;
}

// Rounded to the nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ bfloat16 to_bfloat16(float x) {
    bfloat16 result;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
#else
    const unsigned bits = __float_as_uint(x);
    result.bits = static_cast<unsigned short>(
        x != x ? 0x7FFF : (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
#endif
    return result;
}

__device__ __forceinline__ float16 to_float16(float x) {
    float16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
    return result;
}

// The bytes of a block's dynamic shared memory, aligned to 128.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

// Waits until all blocks of a cooperative launch, whose grid is a row, are here; what any of them
// wrote to global memory before is then visible to all. Meanwhile thread 32 of each calls a
// function. The counter is 0 at first, and fit for the next barrier, launch or grid after each: a
// barrier adds 2^31 to it altogether, so that its first bit turns when the last block comes.
template <class Meanwhile>
__device__ __forceinline__ void grid_barrier(unsigned* counter, Meanwhile meanwhile) {
    __syncthreads();
    if (threadIdx.x == 0) {
        const unsigned mine = blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1u;
        __threadfence();
        const unsigned before = atomicAdd(counter, mine);
        unsigned now;
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                         : "=r"(now)
                         : "l"(__cvta_generic_to_global(counter))
                         : "memory");
        } while (((before ^ now) & 0x80000000u) == 0);
        __threadfence();
    }
    if (threadIdx.x == 32) meanwhile();
    __syncthreads();
}

__device__ __forceinline__ void grid_barrier(unsigned* counter) {
    grid_barrier(counter, [] {});
}

#if __CUDA_ARCH__ >= 800

// Copies BYTES (4, 8 or 16) from global to shared memory without waiting, or writes zeros where
// `there` is false, when nothing is read. Both addresses are multiples of BYTES.
template <int BYTES>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool there) {
    const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    const int size = there ? BYTES : 0;
    if (BYTES == 16) {  // past the first-level cache: a tile is read once by a block
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global),
                     "r"(size)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(target), "l"(global),
                     "n"(BYTES), "r"(size)
                     : "memory");
    }
}

// Ends a group of this thread's copies.
__device__ __forceinline__ void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most PENDING of this thread's latest groups are not done.
template <int PENDING>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8x8 matrices of 16-bit numbers from shared memory. Lane l names row l % 8 of matrix l / 8
// (16 bytes, aligned); it receives of matrix i, in part[i], numbers 2 (l % 4) and the next of row l
// / 4.
__device__ __forceinline__ void load_matrices(unsigned (&part)[4], const void* row) {
    const unsigned source = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(part[0]), "=r"(part[1]), "=r"(part[2]), "=r"(part[3])
                 : "r"(source)
                 : "memory");
}

// The same, each matrix transposed: the lane receives rows 2 (l % 4) and the next, of column l / 4.
__device__ __forceinline__ void load_matrices_transposed(unsigned (&part)[4], const void* row) {
    const unsigned source = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(part[0]), "=r"(part[1]), "=r"(part[2]), "=r"(part[3])
                 : "r"(source)
                 : "memory");
}

// c (16x8, float32) += a (16x16) b (16x8), by the 32 lanes of a warp. With g = lane / 4 and
// t = lane % 4, a lane holds
//   a[0], a[1]: row g and row g + 8, columns 2t, 2t+1;  a[2], a[3]: the same rows, columns + 8
//   b[0]: column g, rows 2t, 2t+1;                      b[1]: rows + 8
//   c[0], c[1]: row g, columns 2t, 2t+1;                c[2], c[3]: row g + 8
__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2], bfloat16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2], float16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// A float32 rounded to tf32 (11 significant bits, ties away from 0), as bits.
__device__ __forceinline__ unsigned to_tf32(float x) {
    unsigned result;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(result) : "f"(x));
    return result;
}

// c (16x8) += a (16x8) b (8x8) of tf32: a[0], a[1]: rows g and g + 8 of column t; a[2], a[3]: of
// column t + 4; b[0], b[1]: rows t and t + 4 of column g; c as above.
__device__ __forceinline__ void multiply_add_tf32(float (&c)[4], const unsigned (&a)[4],
                                                  const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif  // __CUDA_ARCH__ >= 800
