// Phases 0 and 1 of tiny.cu: a few rows of the batch through the network and back.
#pragma once
#include <losses.cuh>
#include <tiny_plan.cuh>

// Rows first, ..., first + count - 1 of the batch. In shared memory there is room for `room` rows,
// 1 or MOST_ROWS, whose numbers of one column lie together; those beyond `count` mean nothing.
struct Rows {
    int first, count, room;

    __device__ __forceinline__ Rows(int first, int each, int rows)
        : first(first), count(min(each, rows - first)), room(each == 1 ? 1 : MOST_ROWS) {}
};

// The regions of shared memory: rows of the data, two that a layer reads and writes in turns, and
// parts of sums. tiny.py adds up the same sizes.
struct Regions {
    C *x, *turns[2], *partial;

    __device__ __forceinline__ Regions(const Plan& plan, int room)
        : x(reinterpret_cast<C*>(plan.memory)),
          turns{x + room * plan.at(0, INPUTS), x + room * (plan.at(0, INPUTS) + plan.widest)},
          partial(turns[1] + room * plan.widest) {}

    __device__ __forceinline__ C* other(const C* turn) const {
        return turn == turns[0] ? turns[1] : turns[0];
    }
};

// put(r, k, value(r, k)) for all numbers of the rows, each thread in one row; several values are
// asked for before the first is needed.
template <class Value, class Put>
__device__ __forceinline__ void stage(Rows rows, int width, Value value, Put put) {
    constexpr int FEW = 8;
    const int lanes = THREADS / rows.room, r = threadIdx.x / lanes;
    if (r < rows.count) {
        for (int first = threadIdx.x % lanes; first < width; first += FEW * lanes) {
            NUMBER some[FEW];
#pragma unroll
            for (int f = 0; f < FEW; ++f) {
                const int k = first + f * lanes;
                some[f] = k < width ? value(r, k) : NUMBER();
            }
#pragma unroll
            for (int f = 0; f < FEW; ++f) {
                const int k = first + f * lanes;
                if (k < width) put(r, k, some[f]);
            }
        }
    }
    __syncthreads();
}

// Rows of the data to shared memory, and to the tape where asked.
__device__ __forceinline__ void stage_rows(const Plan& plan, const Now& now, Rows rows, C* x,
                                           bool to_tape) {
    const int width = plan.at(0, INPUTS), mine = threadIdx.x / (THREADS / rows.room);
    NUMBER* const tape = plan.tape + plan.at(0, X_START) + rows.first * width;
    const long long number = mine < rows.count ? plan.order[now.first + rows.first + mine] : 0;
    const C* const from = plan.X + number * width;
    stage(
        rows, width, [&](int, int k) { return converted<NUMBER>(from[k]); },
        [&](int r, int k, NUMBER value) {
            x[k * rows.room + r] = operand<C>(value);
            if (to_tape) tape[r * width + k] = value;
        });
}

// What phase 0 left of the first layer's output on the tape to shared memory.
__device__ __forceinline__ void stage_first_output(const Plan& plan, Rows rows, C* x) {
    const int width = plan.at(0, OUTPUTS);
    const NUMBER* const a = plan.tape + plan.at(0, A_START) + rows.first * width;
    stage(
        rows, width, [&](int r, int k) { return a[r * width + k]; },
        [&](int r, int k, NUMBER value) { x[k * rows.room + r] = operand<C>(value); });
}

// `lanes` columns of a layer's output from the first on: product, bias, activation, dropout. To the
// tape, and unless `next` is null to there for the layer after it.
__device__ __forceinline__ void forward_columns(const Plan& plan, const Now& now, Rows rows,
                                                int layer, int first, int lanes, const C* x,
                                                C* partial, C* next) {
    const int inputs = plan.at(layer, INPUTS), width = plan.at(layer, OUTPUTS);
    const NUMBER* const W = plan.W(layer);
    const C* const bias = plan.parameters + plan.at(layer, B_START);
    if (rows.room == 1) {
        multiply_rows<1>(x, W, bias, inputs, width, first, lanes, partial);
    } else {
        multiply_rows<MOST_ROWS>(x, W, bias, inputs, width, first, lanes, partial);
    }
    __syncthreads();
    const int code = plan.at(layer, CODE), saved = plan.at(layer, SAVED_START);
    const bool drops = plan.threshold(layer) != 0, is_output = layer == plan.depth - 1;
    const Dropout<C> dropout = plan.dropout(layer, now.counters);
    for (int e = threadIdx.x; e < rows.count * lanes; e += THREADS) {
        const int r = e / lanes, column = first + e % lanes;
        if (column >= width) continue;
        const int place = (rows.first + r) * width + column;
        C kept, a = activate(code, sum_groups(partial, r, e % lanes, lanes), kept);
        if (is_output) {
            plan.output_saved[place] = kept;
            plan.output[place] = next[column * rows.room + r] = a;
            continue;
        }
        if (drops) a *= dropout.factor(place);
        const NUMBER stored = converted<NUMBER>(a);
        plan.tape[saved + place] = converted<NUMBER>(kept);
        plan.tape[plan.at(layer, A_START) + place] = stored;  // may be where `kept` went: the same
        if (next) next[column * rows.room + r] = operand<C>(stored);
    }
    __syncthreads();
}

// Phase 0: `split` columns of the first layer for MOST_ROWS rows at a time.
__device__ __forceinline__ void first_layer(const Plan& plan, const Now& now) {
    const int across = (plan.at(0, OUTPUTS) + plan.split - 1) / plan.split;
    const int parts = (now.rows + MOST_ROWS - 1) / MOST_ROWS * across;
    for (int part = blockIdx.x; part < parts; part += gridDim.x) {
        const Rows rows(part / across * MOST_ROWS, MOST_ROWS, now.rows);
        const Regions regions(plan, rows.room);
        const int column = part % across * plan.split;
        stage_rows(plan, now, rows, regions.x, column == 0);
        forward_columns(plan, now, rows, 0, column, plan.split, regions.x, regions.partial,
                        nullptr);
    }
}

// Softmax of each row of z, in place and to the output.
__device__ __forceinline__ void softmax(const Plan& plan, Rows rows, int width, C* z) {
    const RowGroup<32> group(0, rows.count, width);
    const int r = static_cast<int>(group.row);
    auto number = [&](long long k) { return z[k * rows.room + r]; };
    const C top = group.largest(group.width > 0 ? number(0) : C(0), number);
    const C total = group.template sum<C>([&](long long k) { return exp(number(k) - top); });
    group.each([&](long long k) {
        const C probability = exp(number(k) - top) / total;
        const long long place = rows.first * width + group.start + k;
        z[k * rows.room + r] = probability;
        plan.output[place] = plan.output_saved[place] = probability;
    });
    __syncthreads();
}

// gradient, in place, of softmax's results a to that of what they were made of.
__device__ __forceinline__ void softmax_delta(Rows rows, int width, const C* a, C* gradient) {
    const RowGroup<32> group(0, rows.count, width);
    const int r = static_cast<int>(group.row);
    const C inner = group.template sum<C>([&](long long k) {
        return gradient[k * rows.room + r] * a[k * rows.room + r];
    });
    group.each([&](long long k) {
        C& g = gradient[k * rows.room + r];
        g = a[k * rows.room + r] * (g - inner);
    });
    __syncthreads();
}

// The loss of each row of outputs a, and its gradient by them.
__device__ __forceinline__ void row_losses(const Plan& plan, const Now& now, Rows rows, int width,
                                           const C* a, C* gradient) {
    const C parameter = static_cast<C>(plan.settings[PARAMETER]);
    const C smoothing = smoothing_of(parameter);
    const RowGroup<32> group(0, rows.count, width);
    const int r = static_cast<int>(group.row);
    const long long row = group.width > 0 ? plan.order[now.first + rows.first + r] : 0;
    const double w = plan.weight && group.width > 0 ? plan.weight[row] : 1.0;
    const C share = static_cast<C>(w / now.weight);
    auto target = [&](long long k) {
        const C y = plan.labels ? C(plan.labels[row] == k ? 1 : 0) : plan.numbers[row * width + k];
        return FORM::CLASSES ? y * (1 - smoothing) + smoothing / width : y;
    };
    const C value = FORM::row(
        group, [&](long long k) { return a[k * rows.room + r]; }, target, parameter,
        [&](long long k, C of_row) {
            // Not a product with 0, which would make NaN of an infinite gradient.
            const C part = now.weight > 0 ? of_row * share : C(0);
            gradient[k * rows.room + r] = widen(converted<NUMBER>(part));
        });
    if (group.leads()) plan.values[rows.first + r] = w * value;
    __syncthreads();
}

// A layer's delta, in place, of what has reached its output: dropout, g'; and to the tape.
__device__ __forceinline__ void finish_delta(const Plan& plan, const Now& now, Rows rows, int layer,
                                             C* delta) {
    const int width = plan.at(layer, OUTPUTS), code = plan.at(layer, CODE);
    const bool drops = plan.threshold(layer) != 0, is_output = layer == plan.depth - 1;
    const Dropout<C> dropout = plan.dropout(layer, now.counters);
    const NUMBER* const saved = plan.tape + plan.at(layer, SAVED_START);
    NUMBER* const tape = plan.tape + plan.at(layer, DELTA_START);
    for (int e = threadIdx.x; e < rows.count * width; e += THREADS) {
        const int at = e % width * rows.room + e / width, place = rows.first * width + e;
        C value = delta[at];
        if (drops) value *= dropout.factor(place);
        if (code != SOFTMAX) {
            value *= slope(code, is_output ? plan.output_saved[place] : widen(saved[place]));
        }
        const NUMBER stored = converted<NUMBER>(value);
        delta[at] = operand<C>(stored);
        tape[place] = stored;
    }
    __syncthreads();
}

// From the gradient by the outputs `a` back to every layer's delta.
__device__ __forceinline__ void backward(const Plan& plan, const Now& now, Rows rows,
                                         const Regions& regions, C* a) {
    const int top = plan.depth - 1, width = plan.at(top, OUTPUTS);
    C* delta = regions.other(a);
    if (plan.at(top, CODE) == SOFTMAX) {
        softmax(plan, rows, width, a);
        row_losses(plan, now, rows, width, a, delta);
        softmax_delta(rows, width, a, delta);
    } else {
        row_losses(plan, now, rows, width, a, delta);
    }
    for (int layer = top;; --layer) {
        finish_delta(plan, now, rows, layer, delta);
        if (layer == 0) return;
        C* const before = regions.other(delta);
        const int inputs = plan.at(layer, INPUTS), outputs = plan.at(layer, OUTPUTS);
        if (rows.room == 1) {
            multiply_back<1>(delta, plan.W(layer), inputs, outputs, before);
        } else {
            multiply_back<MOST_ROWS>(delta, plan.W(layer), inputs, outputs, before);
        }
        __syncthreads();
        delta = before;
    }
}

// Phase 1, `each` rows at a time.
__device__ __forceinline__ void pass_rows(const Plan& plan, const Now& now, int each) {
    for (int first = blockIdx.x * each; first < now.rows; first += gridDim.x * each) {
        const Rows rows(first, each, now.rows);
        const Regions regions(plan, rows.room);
        C* x = plan.split ? regions.turns[1] : regions.x;
        if (plan.split) {
            stage_first_output(plan, rows, x);
        } else {
            stage_rows(plan, now, rows, x, true);
        }
        for (int layer = plan.split ? 1 : 0; layer < plan.depth; ++layer) {
            const int width = plan.at(layer, OUTPUTS), lanes = lanes_of(width);
            C* const next = regions.other(x);
            for (int column = 0; column < width; column += lanes) {
                forward_columns(plan, now, rows, layer, column, lanes, x, regions.partial, next);
            }
            x = next;
        }
        backward(plan, now, rows, regions, x);
    }
}
