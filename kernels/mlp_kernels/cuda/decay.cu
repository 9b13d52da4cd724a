// Decay that no optimizer rescales.
//
// Macro: NUMBER.
#include <elements.cuh>
#include <state.cuh>

// weights (size,) *= 1 - learning rate * weight_decay, unless scalars[SKIP] is 1.
extern "C" __global__ void decay(NUMBER* weights, long long size, double weight_decay,
                                 const double* scalars) {
    using C = Compute<NUMBER>;
    if (scalars[SKIP] == 1) return;
    const C shrink = static_cast<C>(1 - scalars[LEARNING_RATE] * weight_decay);
    constexpr int N = pack_size<NUMBER>();
    for_elements<N>(size, is_aligned<N>(weights), [&](auto count, long long i) {
        constexpr int n = decltype(count)::value;
        auto w = load<n>(weights + i);
        for (int j = 0; j < n; ++j) w.at[j] = narrow<NUMBER>(widen(w.at[j]) * shrink);
        store<n>(weights + i, w);
    });
}
