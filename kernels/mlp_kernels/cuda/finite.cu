// Whether an array has numbers that are none.
//
// Macro: NUMBER.
#include <elements.cuh>
#include <reduce.cuh>

constexpr int THREADS = 256;

// count (1,) = how many of array (size,) are NaN or infinite; partial (gridDim.x,).
extern "C" __global__ void count_not_finite(const NUMBER* array, long long* count, long long size,
                                            long long* partial, unsigned* ticket) {
    using C = Compute<NUMBER>;
    constexpr int N = pack_size<NUMBER>();
    long long found = 0;
    for_elements<N>(size, is_aligned<N>(array), [&](auto n, long long i) {
        const auto numbers = load<decltype(n)::value>(array + i);
        for (auto each : numbers.at) {
            const C x = widen(each);
            found += x - x != C(0);  // infinity - infinity is NaN, too
        }
    });
    found = sum_block<THREADS>(found);
    if (threadIdx.x == 0) partial[blockIdx.x] = found;
    if (!is_last_block(ticket, gridDim.x)) return;
    found = 0;
    for (unsigned block = threadIdx.x; block < gridDim.x; block += THREADS) {
        found += partial[block];
    }
    found = sum_block<THREADS>(found);
    if (threadIdx.x == 0) *count = found;
}
