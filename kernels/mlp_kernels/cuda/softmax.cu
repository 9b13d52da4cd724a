// Softmax of each row, and the backward pass through it.
//
// Macros: ROW_LANES: threads of a row; GIVEN: number type of what comes in (z, or a gradient);
// SAVED, OUT: of the other two arrays; DROPOUT: 0 or 1.
#include <philox.cuh>
#include <row_group.cuh>

#if DROPOUT
#define DROPOUT_PARAMETERS unsigned threshold, double scale, int layer, const long long* counters
#define DROPOUT_FACTOR(C)                                                      \
    const Dropout<C> dropout(threshold, static_cast<C>(scale), layer, counters); \
    auto factor = [&](long long i) { return dropout.factor(i); }
#else
#define DROPOUT_PARAMETERS int
#define DROPOUT_FACTOR(C) auto factor = [](long long) { return C(1); }
#endif

// a = softmax(z) * dropout factor, and softmax(z) itself into saved unless that is null, all
// (rows, width); either may be z, if of its type.
extern "C" __global__ void softmax_rows(const GIVEN* z, SAVED* saved, OUT* a, long long rows,
                                        long long width, DROPOUT_PARAMETERS) {
    using C = Compute<GIVEN>;
    DROPOUT_FACTOR(C);
    for_row_groups<ROW_LANES>(rows, width, [&](RowGroup<ROW_LANES> group) {
        const GIVEN* row = z + group.start;
        auto number = [&](long long k) { return widen(row[k]); };
        const C top = group.largest(group.width > 0 ? number(0) : C(0), number);
        const C total = group.template sum<C>([&](long long k) { return exp(number(k) - top); });
        group.each([&](long long k) {
            const long long i = group.start + k;
            const C probability = exp(number(k) - top) / total;
            if (saved) saved[i] = converted<SAVED>(probability);
            if (a) a[i] = converted<OUT>(probability * factor(i));
        });
    });
}

// out = saved * (g - sum over the row of g * saved), g = gradient * dropout factor: all
// (rows, width); out may be gradient.
extern "C" __global__ void softmax_delta(const GIVEN* gradient, const SAVED* saved, OUT* out,
                                         long long rows, long long width, DROPOUT_PARAMETERS) {
    using C = Compute<SAVED>;
    DROPOUT_FACTOR(C);
    for_row_groups<ROW_LANES>(rows, width, [&](RowGroup<ROW_LANES> group) {
        auto g = [&](long long k) {
            const long long i = group.start + k;
            return number<C>(gradient[i]) * factor(i);
        };
        auto a = [&](long long k) { return number<C>(saved[group.start + k]); };
        const C inner = group.template sum<C>([&](long long k) { return g(k) * a(k); });
        group.each([&](long long k) {
            out[group.start + k] = converted<OUT>(a(k) * (g(k) - inner));
        });
    });
}
