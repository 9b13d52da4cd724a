// Sums in a fixed order: the same bits on every run, whatever order blocks and warps finish in.
#pragma once

// Sum over the lanes of a warp whose numbers differ in the bits of LANES - 1; every lane gets it.
template <int LANES, class C>
__device__ __forceinline__ C sum_lanes(C x) {
    for (int step = LANES / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(0xFFFFFFFFu, x, step);
    }
    return x;
}

// Sum over all threads of a block of THREADS, a multiple of 32; the first warp's threads get it.
template <int THREADS, class C>
__device__ __forceinline__ C sum_block(C x) {
    __shared__ C of_warp[THREADS / 32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    x = sum_lanes<32>(x);
    __syncthreads();  // an earlier sum may still be read
    if (lane == 0) of_warp[warp] = x;
    __syncthreads();
    if (warp == 0) {
        x = sum_lanes<32>(lane < THREADS / 32 ? of_warp[lane] : C(0));
    }
    return x;
}

// Whether this block is the last of `blocks` to come here; to all its threads. What the others
// wrote to global memory before is then visible. The ticket, 0 at first, is 0 again afterwards, so
// that a launch can be repeated.
__device__ __forceinline__ bool is_last_block(unsigned* ticket, unsigned blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(ticket, 1u) == blocks - 1;
        if (last) *ticket = 0;
    }
    __syncthreads();
    __threadfence();
    return last;
}
