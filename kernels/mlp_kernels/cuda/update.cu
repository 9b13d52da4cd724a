// One step of an optimizer on the flat buffers, in one pass over them.
//
// Macros: NUMBER: of parameters, gradients and state; RULE: a struct of rules.cuh; KEPT: a bit for
// each state array; DECAY: 1 for decoupled decay before the rule; COPY: the number type of a copy
// of the new parameters, where one is wanted.
#include <elements.cuh>
#include <philox.cuh>
#include <rules.cuh>
#include <state.cuh>

#ifdef COPY
using Copy = COPY;
constexpr bool COPIES = true;
#else
using Copy = NUMBER;
constexpr bool COPIES = false;
#endif

using C = Compute<NUMBER>;

// parameters, gradients, state, copy (size,); weight_decay is of the first weights_end parameters.
// Nothing is done where scalars[SKIP] is 1; the step number counts the steps not skipped. A rule
// that has no use for it needs no counters.
extern "C" __global__ void update(NUMBER* parameters, const NUMBER* gradients, NUMBER* state0,
                                  NUMBER* state1, NUMBER* state2, Copy* copy, long long size,
                                  long long weights_end, double weight_decay,
                                  const double* scalars, const long long* counters,
                                  double setting0, double setting1, double setting2,
                                  double setting3, double setting4, double setting5) {
    if (scalars[SKIP] == 1) return;
    __shared__ RULE<C, KEPT> shared;
    if (threadIdx.x == 0) {  // powers in double are dear: once in a block
        const double settings[] = {setting0, setting1, setting2, setting3, setting4, setting5};
        const long long step = counters ? counters[STEP] - counters[SKIPPED] : 1;
        shared.begin(settings, {scalars[LEARNING_RATE], static_cast<double>(step)});
    }
    __syncthreads();
    const RULE<C, KEPT> rule = shared;
    const C scale = static_cast<C>(scalars[GRADIENT_SCALE]);
    const C shrink = static_cast<C>(1 - scalars[LEARNING_RATE] * weight_decay);
    NUMBER* const states[] = {state0, state1, state2};
    constexpr int N = pack_size<NUMBER>();
    bool wide = is_aligned<N>(parameters) && is_aligned<N>(gradients);
    for (int s = 0; s < 3; ++s) wide = wide && (!(KEPT >> s & 1) || is_aligned<N>(states[s]));
    if (COPIES) wide = wide && is_aligned<N>(copy);

    for_elements<N>(size, wide, [&](auto count, long long i) {
        constexpr int n = decltype(count)::value;
        auto p = load<n>(parameters + i);
        const auto g = load<n>(gradients + i);
        Pack<NUMBER, n> kept[3];
        Pack<Copy, n> rounded;
        for (int s = 0; s < 3; ++s) {
            if (KEPT >> s & 1) kept[s] = load<n>(states[s] + i);
        }
        for (int j = 0; j < n; ++j) {
            C state[3] = {};
            for (int s = 0; s < 3; ++s) {
                if (KEPT >> s & 1) state[s] = widen(kept[s].at[j]);
            }
            C x = widen(p.at[j]);
            if (DECAY && i + j < weights_end) x *= shrink;
            x = rule.step(x, widen(g.at[j]) * scale, state);
            p.at[j] = narrow<NUMBER>(x);
            if (COPIES) rounded.at[j] = converted<Copy>(x);
            for (int s = 0; s < 3; ++s) {
                if (KEPT >> s & 1) kept[s].at[j] = narrow<NUMBER>(state[s]);
            }
        }
        store<n>(parameters + i, p);
        if (COPIES) store<n>(copy + i, rounded);
        for (int s = 0; s < 3; ++s) {
            if (KEPT >> s & 1) store<n>(states[s] + i, kept[s]);
        }
    });
}
