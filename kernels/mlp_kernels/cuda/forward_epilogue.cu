// What follows the product of linear_forward.cu where a library made it.
//
// Macros, besides those of epilogue.cuh: SAVED: 1 where there is a `saved` apart from a.
#include <epilogue.cuh>
#include <philox.cuh>

// a = g(z + b), then dropout, and what the backward pass needs of it in `saved`: z, a, saved
// (rows, width), b (width,). a or saved may be z.
extern "C" __global__ void __launch_bounds__(THREADS, N == 8 ? 2 : 4)
    forward_epilogue(const PRODUCT* z, const C* b, RESULT* a, RESULT* saved, long long rows,
                     int width, int lanes, unsigned threshold, double scale, int layer,
                     const long long* counters) {
    const Share share(width, lanes);
    if (share.count == 0) return;
    const bool wide = is_wide(z, width) && is_wide(a, width) && is_wide(saved, width);
#if DROPOUT
    const Dropout<C> dropout(threshold, static_cast<C>(scale), layer, counters);
#endif
    C bias[N];
#pragma unroll
    for (int j = 0; j < N; ++j) bias[j] = j < share.count ? b[share.column + j] : C(0);
    for (long long row = share.first; row < rows; row += share.step) {
        const long long at = row * width + share.column;
        const auto product = load_some(z + at, share.count, wide);
        Pack<RESULT, N> out, kept;
        C value[N];
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const C sum = number<C>(product.at[j]) + bias[j];
            value[j] = ACTIVATION::forward(sum);
            kept.at[j] = narrow<RESULT>(ACTIVATION::SAVES_Z ? sum : value[j]);
        }
#if DROPOUT
        dropout.apply(value, at);
#endif
#pragma unroll
        for (int j = 0; j < N; ++j) out.at[j] = narrow<RESULT>(value[j]);
        store_some(a + at, out, share.count, wide);
        if (SAVED) store_some(saved + at, kept, share.count, wide);
    }
}
