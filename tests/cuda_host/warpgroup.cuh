// The instructions of the kernels' file of the same name, for a CPU; what they do is in
// warpgroup.cpp.
#pragma once
#include "intrinsics.cuh"

namespace cuda_host {
unsigned offset_in_shared(const void* p);
unsigned long long matrix_descriptor(const void* shared, unsigned leading, unsigned stride,
                                     const char* file, int line);
void show_to_products();
void begin_products(const char* file, int line);
void start_product(float* c, unsigned long long a, unsigned long long b, bool across_a,
                   bool across_b, bool of_bfloat16, const char* file, int line);
void commit_products();
void wait_for_products(unsigned pending, const char* file, int line);
}  // namespace cuda_host

inline unsigned char* aligned_to_1024(unsigned char* memory) {
    return memory + (1024 - cuda_host::offset_in_shared(memory) % 1024) % 1024;
}

#define CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline unsigned long long matrix_descriptor(const void* shared, unsigned leading, unsigned stride,
                                            CALLER) {
    return cuda_host::matrix_descriptor(shared, leading, stride, file, line);
}
inline void show_to_products() { cuda_host::show_to_products(); }
inline void begin_products(CALLER) { cuda_host::begin_products(file, line); }
inline void commit_products() { cuda_host::commit_products(); }
template <int PENDING>
inline void wait_for_products(CALLER) {
    cuda_host::wait_for_products(PENDING, file, line);
}
inline void read_from_here(float&) {}

template <int ACROSS_A, int ACROSS_B>
inline void start_product(float (&c)[16][4], unsigned long long a, unsigned long long b, bfloat16,
                          CALLER) {
    cuda_host::start_product(c[0], a, b, ACROSS_A, ACROSS_B, true, file, line);
}
template <int ACROSS_A, int ACROSS_B>
inline void start_product(float (&c)[16][4], unsigned long long a, unsigned long long b, float16,
                          CALLER) {
    cuda_host::start_product(c[0], a, b, ACROSS_A, ACROSS_B, false, file, line);
}
#undef CALLER
