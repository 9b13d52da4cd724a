// Rows of a batch out of the data: up to three arrays (X, targets, sample weights) in one launch.
//
// Macros: ARRAYS, 1 to 3; FROM0, TO0, ...: the types of each array's numbers before and after.
#include <elements.cuh>

// out[i] = source[index[i]]: source (N, width), index (rows,), out (rows, width).
template <class From, class To>
__device__ __forceinline__ void gather(const long long* index, long long rows, const From* source,
                                       To* out, long long width, int lanes) {
    constexpr int N = pack_size<From, To>();
    const bool wide = width % N == 0 && is_aligned<N>(source) && is_aligned<N>(out);
    auto take = [&](auto count, long long row, long long column) {
        constexpr int n = decltype(count)::value;
        const auto numbers = load<n>(source + index[row] * width + column);
        Pack<To, n> result;
        for (int j = 0; j < n; ++j) result.at[j] = converted<To>(numbers.at[j]);
        store<n>(out + row * width + column, result);
    };
    if (wide) {
        for_rows(rows, width, lanes, N, [&](long long i, long long k) { take(Count<N>(), i, k); });
    } else {
        for_rows(rows, width, lanes, 1, [&](long long i, long long k) { take(Count<1>(), i, k); });
    }
}

// Lanes is the number of threads that share a row of an array.
#define ARRAY(n) const FROM##n *source##n, TO##n *out##n, long long width##n, int lanes##n
extern "C" __global__ void gather_batch(const long long* index, long long rows, ARRAY(0)
#if ARRAYS > 1
                                        , ARRAY(1)
#endif
#if ARRAYS > 2
                                        , ARRAY(2)
#endif
) {
    gather(index, rows, source0, out0, width0, lanes0);
#if ARRAYS > 1
    gather(index, rows, source1, out1, width1, lanes1);
#endif
#if ARRAYS > 2
    gather(index, rows, source2, out2, width2, lanes2);
#endif
}
