// Phases 2 and 3 of tiny.cu: gradients of some weights and biases, and their update.
#pragma once
#include <tiny_plan.cuh>

constexpr int OF_THREAD = TILE * TILE / THREADS;  // elements of a part: rows one below the other

// A part of a layer's dW, TILE rows and columns; db is its row I, below the last.
struct Part {
    int layer, row, column;

    // Of all parts, layer by layer, the one of this number.
    __device__ __forceinline__ Part(const Plan& plan, int number) : layer(0) {
        while (layer + 1 < plan.depth && number >= plan.at(layer + 1, FIRST_PART)) ++layer;
        const int across = (plan.at(layer, OUTPUTS) + TILE - 1) / TILE;
        const int of_layer = number - plan.at(layer, FIRST_PART);
        row = of_layer / across * TILE;
        column = of_layer % across * TILE;
    }

    // Calls body(j, place in the flat buffers) for this thread's elements.
    template <class Body>
    __device__ __forceinline__ void each(const Plan& plan, Body body) const {
        const int inputs = plan.at(layer, INPUTS), outputs = plan.at(layer, OUTPUTS);
        const int o = column + threadIdx.x % TILE, i = row + threadIdx.x / TILE * OF_THREAD;
        if (o >= outputs) return;
#pragma unroll
        for (int j = 0; j < OF_THREAD; ++j) {
            if (i + j < inputs) body(j, plan.at(layer, W_START) + (i + j) * outputs + o);
            if (i + j == inputs) body(j, plan.at(layer, B_START) + o);
        }
    }
};

// Calls body(part, number) for this block's parts.
template <class Body>
__device__ __forceinline__ void for_parts(const Plan& plan, Body body) {
    for (int number = blockIdx.x; number < plan.parts; number += gridDim.x) {
        body(Part(plan, number), number);
    }
}

// sums = this thread's elements of x^T delta, and of the column sums of delta.
__device__ __forceinline__ void multiply_part(const Plan& plan, const Now& now, const Part& part,
                                              C (&sums)[OF_THREAD]) {
    constexpr int SOME = DEPTH * TILE / THREADS;
    const int inputs = plan.at(part.layer, INPUTS), outputs = plan.at(part.layer, OUTPUTS);
    const NUMBER* const x = plan.tape + plan.at(part.layer, X_START);
    const NUMBER* const delta = plan.tape + plan.at(part.layer, DELTA_START);
    C* const some_x = reinterpret_cast<C*>(plan.memory);  // (DEPTH, TILE)
    C* const some_delta = some_x + DEPTH * TILE;
    const int lane = threadIdx.x % TILE, mine = threadIdx.x / TILE * OF_THREAD;
    const int i = part.row + lane, o = part.column + lane;
#pragma unroll
    for (int j = 0; j < OF_THREAD; ++j) sums[j] = 0;
    for (int first = 0; first < now.rows; first += DEPTH) {
        const int count = min(DEPTH, now.rows - first);
        C of_x[SOME], of_delta[SOME];
#pragma unroll
        for (int s = 0; s < SOME; ++s) {
            const int b = first + s * (THREADS / TILE) + threadIdx.x / TILE;
            const bool there = b < now.rows;
            of_x[s] = there && i < inputs ? operand<C>(x[b * inputs + i]) : C(1);
            of_delta[s] = there && o < outputs ? widen(delta[b * outputs + o]) : C(0);
        }
        __syncthreads();  // an earlier share may still be read
#pragma unroll
        for (int s = 0; s < SOME; ++s) {
            some_x[s * THREADS + threadIdx.x] = of_x[s];
            some_delta[s * THREADS + threadIdx.x] = of_delta[s];
        }
        __syncthreads();
#pragma unroll 4
        for (int b = 0; b < count; ++b) {
            const C exact = some_delta[b * TILE + lane], rounded = operand<C>(exact);
            C of_row[OF_THREAD];
            load_some(some_x + b * TILE + mine, of_row);
#pragma unroll
            for (int j = 0; j < OF_THREAD; ++j) {
                const bool of_bias = part.row + mine + j == inputs;  // a sum, not a product
                sums[j] += of_row[j] * (of_bias ? exact : rounded);
            }
        }
    }
}

// This thread's parameters of a part and their states, asked for before they are needed.
struct Held {
    C p[OF_THREAD], state[OF_THREAD][3];

    __device__ __forceinline__ Held(const Plan& plan, const Part& part) {
        part.each(plan, [&](int j, int at) {
            p[j] = plan.parameters[at];
#pragma unroll
            for (int s = 0; s < 3; ++s) {
                if (KEPT >> s & 1) state[j][s] = plan.states[s][at];
            }
        });
    }

    // The rule's step of one of them.
    __device__ __forceinline__ void update(const Plan& plan, const Rule& rule, C shrink, int j,
                                           int at, C g) {
        const C x = rule.step(at < plan.weights_end ? p[j] * shrink : p[j], g, state[j]);
        plan.parameters[at] = x;
        if (SHORT) plan.copies[at] = converted<NUMBER>(x);
#pragma unroll
        for (int s = 0; s < 3; ++s) {
            if (KEPT >> s & 1) plan.states[s][at] = state[j][s];
        }
    }
};

__device__ __forceinline__ C shrinking(const Plan& plan, const Now& now) {
    return static_cast<C>(1 - now.rate * plan.settings[WEIGHT_DECAY]);
}

// What l1 and l2 add to the gradient of a parameter.
__device__ __forceinline__ C penalty(const Plan& plan, const Now& now, int at, C w) {
    const C one = static_cast<C>(now.penalty * plan.settings[L1]);
    const C two = static_cast<C>(now.penalty * plan.settings[L2]);
    if (at >= plan.weights_end || (one == 0 && two == 0)) return 0;
    return one * (w > C(0) ? C(1) : w < C(0) ? C(-1) : w) + two * w;  // 0 and NaN stay
}

// In phase 1, when no weight changes: the penalty of as many shares of the weights as dW has parts,
// so that no sum depends on how many blocks there are.
__device__ __forceinline__ void sum_penalties(const Plan& plan) {
    const double l1 = plan.settings[L1], l2 = plan.settings[L2];
    const long long each = (plan.weights_end + plan.parts - 1) / plan.parts;
    for (int number = blockIdx.x; number < plan.parts; number += gridDim.x) {
        const long long stop = min((number + 1) * each, plan.weights_end);
        double sum = 0;
        for (long long i = number * each + threadIdx.x; i < stop; i += THREADS) {
            const double w = plan.parameters[i];
            sum += l1 * fabs(w) + l2 / 2 * w * w;
        }
        sum = sum_block<THREADS>(sum);
        if (threadIdx.x == 0) plan.penalties[number] = sum;
    }
}

// Their sum is the penalty of this step, in one block.
__device__ __forceinline__ void add_penalties(const Plan& plan, const Now& now) {
    double sum = 0;
    for (int i = threadIdx.x; i < plan.parts; i += THREADS) sum += plan.penalties[i];
    sum = sum_block<THREADS>(sum);
    if (threadIdx.x == 0) plan.penalty_values[now.counters[BATCH]] = sum;
}

// Phase 2: gradients of this block's parts. Where they are clipped they are left in memory, with
// the sum of each part's squares; else the update follows at once.
__device__ __forceinline__ void update_parts(const Plan& plan, const Now& now, const Rule& rule,
                                             bool clips) {
    const C shrink = shrinking(plan, now);
    for_parts(plan, [&](const Part& part, int number) {
        Held held(plan, part);
        C sums[OF_THREAD];
        multiply_part(plan, now, part, sums);
        double squares = 0;
        part.each(plan, [&](int j, int at) {
            const C g = sums[j] + penalty(plan, now, at, held.p[j]);
            if (clips || now.is_last) plan.gradients[at] = g;
            if (clips) {
                squares += static_cast<double>(g) * g;
            } else {
                held.update(plan, rule, shrink, j, at, g);
            }
        });
        if (clips) {
            squares = sum_block<THREADS>(squares);
            if (threadIdx.x == 0) plan.squares[number] = squares;
        }
    });
}

// Phase 3: the update by clipped gradients, each by the thread that has left it; returns their
// scale.
__device__ __forceinline__ double update_clipped(const Plan& plan, const Now& now,
                                                 const Rule& rule) {
    double squares = 0;
    for (int i = threadIdx.x; i < plan.parts; i += THREADS) squares += plan.squares[i];
    const double most = plan.settings[MAX_NORM] / (sqrt(sum_for_all(squares)) + 1e-6);
    const double scale = most < 1 ? most : 1;  // 1 where the norm is NaN
    const C factor = static_cast<C>(scale), shrink = shrinking(plan, now);
    for_parts(plan, [&](const Part& part, int) {
        Held held(plan, part);
        C g[OF_THREAD];
        part.each(plan, [&](int j, int at) { g[j] = plan.gradients[at] * factor; });
        part.each(plan, [&](int j, int at) { held.update(plan, rule, shrink, j, at, g[j]); });
    });
    return scale;
}

// totals (2,) += what the rows of the batch have left, in one block.
__device__ __forceinline__ void add_losses(const Plan& plan, const Now& now, double* totals) {
    double sum = 0;
    for (int i = threadIdx.x; i < now.rows; i += THREADS) sum += plan.values[i];
    sum = sum_block<THREADS>(sum);
    if (threadIdx.x == 0) {
        totals[LOSS_SUM] += sum;
        totals[WEIGHT_SUM] += now.weight;
    }
}
