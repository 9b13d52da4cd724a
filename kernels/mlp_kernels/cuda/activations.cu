// The backward pass through an activation that works element by element.
//
// Macros: ACTIVATION; GRADIENT, SAVED, OUT: number types.
#include <activations.cuh>
#include <elements.cuh>

// out = gradient * g'(saved), all (size,); out may be gradient.
extern "C" __global__ void activation_delta(const GRADIENT* gradient, const SAVED* saved, OUT* out,
                                            long long size) {
    using C = Compute<SAVED>;
    constexpr int N = pack_size<GRADIENT, SAVED, OUT>();
    const bool wide = is_aligned<N>(gradient) && is_aligned<N>(saved) && is_aligned<N>(out);
    for_elements<N>(size, wide, [&](auto count, long long i) {
        constexpr int n = decltype(count)::value;
        const auto g = load<n>(gradient + i);
        const auto s = load<n>(saved + i);
        Pack<OUT, n> result;
        for (int j = 0; j < n; ++j) {
            const C slope = ACTIVATION::derivative(number<C>(s.at[j]));
            result.at[j] = converted<OUT>(number<C>(g.at[j]) * slope);
        }
        store<n>(out + i, result);
    });
}
