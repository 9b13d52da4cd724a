// The loss of a batch and its gradient in one pass.
//
// Macros: FORM, a struct of losses.cuh; ROW_LANES: threads of a row; OUTPUT: float or double;
// DELTA: number type; LABELS: 1 where targets are class labels; WEIGHTED, SCALED: 1 where there
// are weights, and a loss scale.
#include <losses.cuh>
#include <state.cuh>

constexpr int THREADS = 256;

#if LABELS
using Target = long long;
#else
using Target = OUTPUT;
#endif

// y_k of row `row`; of class targets, smoothed: y_k (1 - s) + s / O.
__device__ __forceinline__ OUTPUT target_of(const Target* target, long long row, long long k,
                                            long long width, OUTPUT smoothing) {
#if LABELS
    const OUTPUT y = target[row] == k ? 1 : 0;
#else
    const OUTPUT y = target[row * width + k];
#endif
    return FORM::CLASSES ? y * (1 - smoothing) + smoothing / width : y;
}

// delta = w_i dL_i/d output * scale / sum(w), 0 where sum(w) is 0; totals (2,) += sum(w_i L_i),
// sum(w). output, delta (rows, width); target (rows,) or (rows, width); weight (rows,), of which
// weights.cu has left the sum in room[0]; room (1 + gridDim.x,).
extern "C" __global__ void loss(const OUTPUT* output, const Target* target, const OUTPUT* weight,
                                double parameter, const double* scaling, DELTA* delta,
                                double* totals, long long rows, long long width, double* room,
                                unsigned* ticket) {
    const double total = WEIGHTED ? room[0] : static_cast<double>(rows);
    const double scale = SCALED ? scaling[LOSS_SCALE] : 1.0;
    const OUTPUT smoothing = smoothing_of(static_cast<OUTPUT>(parameter));
    double sum = 0;
    for_row_groups<ROW_LANES>(rows, width, [&](RowGroup<ROW_LANES> group) {
        const double w = WEIGHTED && group.width > 0 ? weight[group.row] : 1.0;
        const OUTPUT share = static_cast<OUTPUT>(w / total * scale);
        const OUTPUT value = FORM::row(
            group, [&](long long k) { return output[group.start + k]; },
            [&](long long k) {
                return target_of(target, group.row, k, width, smoothing);
            },
            static_cast<OUTPUT>(parameter),
            [&](long long k, OUTPUT gradient) {
                // Not a product with 0, which would make NaN of an infinite gradient.
                const OUTPUT part = total > 0 ? gradient * share : OUTPUT(0);
                delta[group.start + k] = converted<DELTA>(part);
            });
        if (group.leads()) sum += w * value;
    });
    sum = sum_block<THREADS>(sum);
    if (threadIdx.x == 0) room[1 + blockIdx.x] = sum;
    if (!is_last_block(ticket, gridDim.x)) return;
    sum = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += THREADS) sum += room[1 + i];
    sum = sum_block<THREADS>(sum);
    if (threadIdx.x == 0) {
        totals[LOSS_SUM] += sum;
        totals[WEIGHT_SUM] += total;
    }
}
