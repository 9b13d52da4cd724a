// What happens to the gradients between the backward pass and the update, in one pass.
//
// Macros: NUMBER: float or double; UNSCALE, PENALTY, CLIP: 1 for each part that is wanted, and
// PENALTY 2 where it has a factor in each step, and its value is wanted.
#include <elements.cuh>
#include <philox.cuh>
#include <reduce.cuh>
#include <state.cuh>

constexpr int THREADS = 256;
constexpr double GROWTH_INTERVAL = 2000;  // good steps after which the loss scale doubles

template <class C>
__device__ __forceinline__ C sign(C x) {
    return x > C(0) ? C(1) : x < C(0) ? C(-1) : x;  // 0 and NaN stay
}

// Where a gradient is not finite the step is skipped and the loss scale halved; else it may grow.
__device__ __forceinline__ void rescale(bool finite, double* scaling, double* scalars,
                                        long long* counters) {
    if (!finite) {
        scalars[SKIP] = 1;
        counters[SKIPPED] += 1;
        scaling[LOSS_SCALE] /= 2;
        scaling[GOOD_STEPS] = 0;
    } else if (++scaling[GOOD_STEPS] >= GROWTH_INTERVAL) {
        scaling[LOSS_SCALE] *= 2;
        scaling[GOOD_STEPS] = 0;
    }
}

// The sum of all blocks' x, in the first warp of the last block; elsewhere false is returned.
template <class C>
__device__ __forceinline__ bool sum_grid(C& x, C* partial, unsigned* ticket) {
    x = sum_block<THREADS>(x);
    if (threadIdx.x == 0) partial[blockIdx.x] = x;
    if (!is_last_block(ticket, gridDim.x)) return false;
    x = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += THREADS) x += partial[i];
    x = sum_block<THREADS>(x);
    return true;
}

// gradients (size,), in place: divided by scaling[LOSS_SCALE]; + l1 sign(w) + l2 w of the first
// weights_end of weights, times penalty_scales[counters[BATCH]] if there are some. Then
// scalars[GRADIENT_SCALE] = min(1, max_norm / (norm + 1e-6)), and scaling, scalars[SKIP] and
// counters[SKIPPED] as `rescale` says, and penalty_values[counters[BATCH]] = l1 sum|w| +
// l2/2 sum w^2. partial (3 gridDim.x,).
extern "C" __global__ void prepare_gradients(NUMBER* gradients, const NUMBER* weights,
                                             long long size, long long weights_end, double l1,
                                             double l2, double max_norm, double* scaling,
                                             double* scalars, long long* counters,
                                             const double* penalty_scales, double* penalty_values,
                                             double* partial, unsigned* tickets) {
    constexpr int N = pack_size<NUMBER>();
    const NUMBER factor = UNSCALE ? static_cast<NUMBER>(1 / scaling[LOSS_SCALE]) : NUMBER(1);
    const double share = PENALTY == 2 ? penalty_scales[counters[BATCH]] : 1;
    const NUMBER one = static_cast<NUMBER>(share * l1), two = static_cast<NUMBER>(share * l2);
    double squares = 0, not_finite = 0, penalty = 0;
    const bool wide = is_aligned<N>(gradients);
    for_elements<N>(size, wide, [&](auto count, long long i) {
        constexpr int n = decltype(count)::value;
        auto g = load<n>(gradients + i);
        for (int j = 0; j < n; ++j) {
            if (UNSCALE) {
                g.at[j] *= factor;
                not_finite += g.at[j] - g.at[j] != 0;  // infinity - infinity is NaN, too
            }
            if (PENALTY && i + j < weights_end) {
                const NUMBER w = weights[i + j];
                g.at[j] += one * sign(w) + two * w;
                if (PENALTY == 2) {
                    const double exact = w;
                    penalty += l1 * fabs(exact) + l2 / 2 * exact * exact;
                }
            }
            if (CLIP) squares += static_cast<double>(g.at[j]) * g.at[j];
        }
        if (UNSCALE || PENALTY) store<n>(gradients + i, g);
    });
    if (CLIP && sum_grid(squares, partial, tickets) && threadIdx.x == 0) {
        const double scale = max_norm / (sqrt(squares) + 1e-6);
        scalars[GRADIENT_SCALE] = scale < 1 ? scale : 1;  // 1 where the norm is NaN
    }
    if (UNSCALE && sum_grid(not_finite, partial + gridDim.x, tickets + 1) && threadIdx.x == 0) {
        rescale(not_finite == 0, scaling, scalars, counters);
    }
    if (PENALTY == 2 && sum_grid(penalty, partial + 2 * gridDim.x, tickets + 2) &&
        threadIdx.x == 0) {
        penalty_values[counters[BATCH]] = penalty;
    }
}
