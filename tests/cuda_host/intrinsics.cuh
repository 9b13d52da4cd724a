// The intrinsics of the kernels' file of the same name, for a CPU. Those of tensor cores are in
// tensor.cpp, by the fragment layouts of the PTX ISA manual, and asynchronous copies in copies.cpp.
#pragma once
#include "runtime.cuh"

struct bfloat16 {
    unsigned short bits;
};
struct float16 {
    unsigned short bits;
};

inline float to_float(bfloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

inline float to_float(float16 x) { return cuda_host::bits_of<_Float16>(x.bits); }

inline bfloat16 to_bfloat16(float x) {
    if (x != x) return {0x7FFF};
    unsigned bits = __float_as_uint(x);
    const unsigned dropped = bits & 0xFFFF;
    bits >>= 16;
    if (dropped > 0x8000 || (dropped == 0x8000 && (bits & 1))) ++bits;
    return {static_cast<unsigned short>(bits)};
}

inline float16 to_float16(float x) {
    if (x != x) return {0x7FFF};
    return {cuda_host::bits_of<unsigned short>(static_cast<_Float16>(x))};
}

#define DYNAMIC_SHARED(name) unsigned char* const name = cuda_host::dynamic_shared()

template <class Meanwhile>
inline void grid_barrier(unsigned* counter, Meanwhile meanwhile,
                         const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    __syncthreads(file, line);
    if (threadIdx.x == 32) meanwhile();
    cuda_host::grid_barrier(counter, file, line);
}
inline void grid_barrier(unsigned* counter, const char* file = __builtin_FILE(),
                         int line = __builtin_LINE()) {
    cuda_host::grid_barrier(counter, file, line);
}

#if __CUDA_ARCH__ >= 800

namespace cuda_host {
void queue_copy(void* shared, const void* global, unsigned bytes, bool there, const char* file,
                int line);
void commit_copies();
void wait_for_copies(unsigned pending);
void load_matrices(unsigned* part, const void* row, bool transposed, const char* file, int line);
enum class Operands { bfloat16, float16, tf32 };
void multiply_add(float* c, const unsigned* a, const unsigned* b, Operands type, const char* file,
                  int line);
}  // namespace cuda_host

#define CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

template <int BYTES>
inline void copy_async(void* shared, const void* global, bool there, CALLER) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
    cuda_host::queue_copy(shared, global, BYTES, there, file, line);
}

inline void copy_async_commit() { cuda_host::commit_copies(); }

template <int PENDING>
inline void copy_async_wait() {
    cuda_host::wait_for_copies(PENDING);
}

inline void load_matrices(unsigned (&part)[4], const void* row, CALLER) {
    cuda_host::load_matrices(part, row, false, file, line);
}

inline void load_matrices_transposed(unsigned (&part)[4], const void* row, CALLER) {
    cuda_host::load_matrices(part, row, true, file, line);
}

inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bfloat16,
                         CALLER) {
    cuda_host::multiply_add(c, a, b, cuda_host::Operands::bfloat16, file, line);
}

inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], float16,
                         CALLER) {
    cuda_host::multiply_add(c, a, b, cuda_host::Operands::float16, file, line);
}

inline unsigned to_tf32(float x) {
    if (x != x) return 0x7FFFFFFF;
    const unsigned bits = __float_as_uint(x);
    // Half of the last place kept, in magnitude: ties go away from 0. Infinity has no such bits.
    return (isinf(x) ? bits : bits + 0x1000) & ~0x1FFFu;
}

inline void multiply_add_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                              CALLER) {
    cuda_host::multiply_add(c, a, b, cuda_host::Operands::tf32, file, line);
}
#undef CALLER

#endif  // __CUDA_ARCH__ >= 800
