// Numbers of one type out of those of another.
//
// Macros: FROM, TO.
#include <elements.cuh>

// out = source, rounded to the nearest; both (size,).
extern "C" __global__ void convert(const FROM* source, TO* out, long long size) {
    constexpr int N = pack_size<FROM, TO>();
    for_elements<N>(size, is_aligned<N>(source) && is_aligned<N>(out),
                    [&](auto count, long long i) {
                        constexpr int n = decltype(count)::value;
                        const auto numbers = load<n>(source + i);
                        Pack<TO, n> result;
                        for (int j = 0; j < n; ++j) result.at[j] = converted<TO>(numbers.at[j]);
                        store<n>(out + i, result);
                    });
}
