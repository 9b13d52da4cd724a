// What NVRTC gives CUDA code for free, in plain C++: a kernel file built with g++ sees this first.
//
// Modelled:
//   - Blocks run one at a time; the threads of a block are fibers, resumed in an order that the
//     launch chooses, so that a missing barrier gives other results under another order. In a
//     cooperative launch all blocks exist at once, each runs up to the next grid_barrier, and which
//     goes on first from there is again the order's choice.
//   - Barriers count arrivals, and warp operations wait for all lanes named: who ends or waits
//     elsewhere is an error with block, thread and line.
//   - Asynchronous copies arrive as late as the waits allow, or at once, as the launch chooses.
//   - Shared memory and uninitialised variables hold garbage at first. Global and dynamic shared
//     memory end at a page that cannot be touched; an index outside an array of fixed size and a
//     misaligned vector are trapped.
// Not modelled:
//   - Memory ordering between blocks: a missing __threadfence never shows, nor does a wait of one
//     block for another end, but in grid_barrier (the next block starts when this one is through).
//   - Races inside a step: between two waits a thread runs alone, so plain `x += 1` on shared
//     numbers is lost only on a device.
//   - Timing, bank conflicts, registers, occupancy, __launch_bounds__, flushing of subnormals, and
//     the last bits of expf and its like, which are the host library's.
#ifndef CUDA_HOST_RUNTIME
#define CUDA_HOST_RUNTIME
#include <math.h>
#include <stddef.h>
#include <string.h>
#undef INFINITY
#undef NAN

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace cuda_host {
extern uint3 thread_index, block_index;
extern dim3 block_size, grid_size;

// Stops the launch with a message about the current thread.
[[noreturn]] void fail(const char* file, int line, const char* format, ...);
void barrier(const char* file, int line);
unsigned count_at_barrier(bool predicate, const char* file, int line);
void grid_barrier(unsigned* counter, const char* file, int line);
unsigned lane();
unsigned char* dynamic_shared();

// What the last lane to come does for all: `operand[i]` is lane i's, null where not in the mask.
using Operation = void (*)(void* (&operand)[32], unsigned mask);
// Waits until all lanes of the mask are here; `what` names the operation in messages.
void together(const char* what, Operation operation, unsigned mask, void* operand,
              const char* file, int line);

template <class T>
struct Shuffled {
    T value, result;
    unsigned source;
};

template <class T>
void exchange(void* (&operand)[32], unsigned mask) {
    for (int i = 0; i < 32; ++i) {
        if (!(mask >> i & 1)) continue;
        auto& mine = *static_cast<Shuffled<T>*>(operand[i]);
        mine.result = static_cast<Shuffled<T>*>(operand[mine.source])->value;
    }
}

template <class T>
T shuffle(const char* what, unsigned mask, T value, unsigned source, const char* file, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    if (!(mask >> source & 1)) fail(file, line, "%s reads lane %u, not in its mask", what, source);
    Shuffled<T> mine{value, value, source};
    together(what, exchange<T>, mask, &mine, file, line);
    return mine.result;
}

template <class To, class From>
To bits_of(From x) {
    static_assert(sizeof(To) == sizeof(From), "");
    To result;
    memcpy(&result, &x, sizeof x);
    return result;
}

template <class T>
T fetch_add(T* place, T value) {
    const T old = *place;
    *place = static_cast<T>(old + value);
    return old;
}
}  // namespace cuda_host

#define threadIdx cuda_host::thread_index
#define blockIdx cuda_host::block_index
#define blockDim cuda_host::block_size
#define gridDim cuda_host::grid_size
constexpr int warpSize = 32;

// --- waiting and warps --------------------------------------------------------------------------

inline void __syncthreads(CALLER) { cuda_host::barrier(file, line); }
inline int __syncthreads_count(int predicate, CALLER) {
    return static_cast<int>(cuda_host::count_at_barrier(predicate != 0, file, line));
}
inline int __syncthreads_or(int predicate, CALLER) {
    return __syncthreads_count(predicate, file, line) > 0;
}
inline int __syncthreads_and(int predicate, CALLER) {
    return __syncthreads_count(!predicate, file, line) == 0;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, CALLER) {
    cuda_host::together("__syncwarp", [](void* (&)[32], unsigned) {}, mask, nullptr, file, line);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CALLER) {
    const unsigned first = cuda_host::lane() & ~(width - 1u);
    return cuda_host::shuffle("__shfl_sync", mask, value, first | (source & (width - 1u)), file,
                              line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CALLER) {
    const unsigned lane = cuda_host::lane(), first = lane & ~(width - 1u);
    return cuda_host::shuffle("__shfl_up_sync", mask, value,
                              lane >= first + delta ? lane - delta : lane, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CALLER) {
    const unsigned lane = cuda_host::lane(), last = lane | (width - 1u);
    return cuda_host::shuffle("__shfl_down_sync", mask, value,
                              lane + delta <= last ? lane + delta : lane, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CALLER) {
    const unsigned lane = cuda_host::lane(), last = lane | (width - 1u), source = lane ^ bits;
    return cuda_host::shuffle("__shfl_xor_sync", mask, value, source <= last ? source : lane, file,
                              line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CALLER) {
    unsigned votes = predicate != 0;
    const auto collect = [](void* (&operand)[32], unsigned named) {
        unsigned all = 0;
        for (int i = 0; i < 32; ++i) {
            if (named >> i & 1) all |= *static_cast<unsigned*>(operand[i]) << i;
        }
        for (int i = 0; i < 32; ++i) {
            if (named >> i & 1) *static_cast<unsigned*>(operand[i]) = all;
        }
    };
    cuda_host::together("a vote", collect, mask, &votes, file, line);
    return votes;
}
inline int __any_sync(unsigned mask, int predicate, CALLER) {
    return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CALLER) {
    return __ballot_sync(mask, !predicate, file, line) == 0;
}

// --- atomic operations --------------------------------------------------------------------------

inline int atomicAdd(int* p, int x) { return cuda_host::fetch_add(p, x); }
inline unsigned atomicAdd(unsigned* p, unsigned x) { return cuda_host::fetch_add(p, x); }
inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long x) {
    return cuda_host::fetch_add(p, x);
}
inline float atomicAdd(float* p, float x) { return cuda_host::fetch_add(p, x); }
inline double atomicAdd(double* p, double x) { return cuda_host::fetch_add(p, x); }
template <class T>
T atomicExch(T* p, T x) {
    const T old = *p;
    *p = x;
    return old;
}
template <class T>
T atomicCAS(T* p, T expected, T x) {
    const T old = *p;
    if (old == expected) *p = x;
    return old;
}

#include "builtins.cuh"
#undef CALLER
#endif
