// Many training steps of a small network in one launch, whose blocks all run at once.
//
// A step has phases, between which the blocks wait for each other:
//   0. (where the first W is large) parts of the first layer's output, a few rows and columns each;
//   1. a few rows of the batch each, through the other layers, the loss, and back to the first
//      delta;
//   2. parts of every dW and db, sums over the batch in its order, and their update;
//   3. (where gradients are clipped) the update, once the norm of all is known.
// No number depends on how many blocks there are.
//
// Macros: NUMBER: what products read; TF32: 1 where they round it to tf32; FORM: a struct of
// losses.cuh; RULE: a struct of rules.cuh; KEPT: a bit for each of its state arrays.
#include <tiny_rows.cuh>
#include <tiny_update.cuh>

// What begins a step: the next counters, the batch's place in the order, and its sum of weights.
__device__ __forceinline__ void begin(const Plan& plan, const double* rates, long long size,
                                      Now& now) {
    now.counters[STEP] += 1;
    now.counters[BATCH] += 1;
    now.first = plan.batch_size * now.counters[BATCH];
    now.rows = static_cast<int>(min(static_cast<long long>(plan.batch_size), size - now.first));
    now.rate = rates[now.counters[BATCH]];
    now.penalty = plan.penalty_scales ? plan.penalty_scales[now.counters[BATCH]] : 1;
    now.weight = now.rows;
    if (!plan.weight) return;
    double sum = 0;
    for (int i = threadIdx.x; i < now.rows; i += THREADS) {
        sum += plan.weight[plan.order[now.first + i]];
    }
    now.weight = sum_for_all(sum);
}

// `steps` steps that follow the one that counters tell of, in the order (size,) of this epoch.
// layers (depth, COLUMNS), settings (SCALES + depth,): see tiny.cuh. A block takes `each` rows of
// the batch at a time, at most MOST_ROWS; split: columns of a part of phase 0, a power of 2, or 0;
// widest: most outputs of a layer; parts: of all dW. parameters, gradients, states, copies: flat;
// tape, output and output_saved: see mlp.backpropagation. Labels or numbers are the targets, weight
// may be null. penalty_scales, penalty_values: see optimizers.prepare; with penalties (parts,), or
// all null. values (batch_size,); squares (parts,); counter: see grid_barrier. Gradients are those
// of the last step.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    tiny_steps(long long steps, const long long* layers, const double* settings, int depth,
               int batch_size, int each, int split, int widest, int parts, C* parameters,
               C* gradients, C* state0, C* state1, C* state2, NUMBER* copies, long long weights_end,
               NUMBER* tape, C* output, C* output_saved, const C* X, const long long* labels,
               const C* numbers, const C* weight, const long long* order, long long size,
               long long* counters, const double* rates, double* scalars, double* totals,
               double* values, double* squares, const double* penalty_scales,
               double* penalty_values, double* penalties, unsigned* counter) {
    DYNAMIC_SHARED(memory);
    __shared__ long long table[MOST_LAYERS * COLUMNS];
    __shared__ double chosen[SCALES + MOST_LAYERS];
    __shared__ Rule shared_rule;
    for (int i = threadIdx.x; i < depth * COLUMNS; i += THREADS) table[i] = layers[i];
    for (int i = threadIdx.x; i < SCALES + depth; i += THREADS) chosen[i] = settings[i];
    const Plan plan{table, chosen, depth, batch_size, split, widest, parts, parameters, gradients,
                    {state0, state1, state2}, copies, weights_end, tape, output, output_saved, X,
                    labels, numbers, weight, order, values, squares, penalty_scales,
                    penalty_values, penalties, memory};
    Now now;
    for (int i = 0; i < 4; ++i) now.counters[i] = counters[i];
    __syncthreads();
    const bool clips = chosen[MAX_NORM] > 0;
    double scale = 1;
    for (long long step = 0; step < steps; ++step) {
        now.is_last = step == steps - 1;
        begin(plan, rates, size, now);
        if (split) {
            first_layer(plan, now);
            grid_barrier(counter);
        }
        if (penalty_scales) sum_penalties(plan);
        pass_rows(plan, now, each);
        grid_barrier(counter, [&] {  // powers in double are dear: while the block waits
            const long long t = now.counters[STEP] - now.counters[SKIPPED];
            shared_rule.begin(chosen + OF_RULE, {now.rate, static_cast<double>(t)});
        });
        const Rule rule = shared_rule;
        if (blockIdx.x == gridDim.x - 1) {  // it has least to do
            add_losses(plan, now, totals);
            if (penalty_scales) add_penalties(plan, now);
        }
        update_parts(plan, now, rule, clips);
        if (clips) {
            grid_barrier(counter);
            scale = update_clipped(plan, now, rule);
        }
        if (!now.is_last) grid_barrier(counter);
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        counters[STEP] = now.counters[STEP];
        counters[BATCH] = now.counters[BATCH];
        scalars[LEARNING_RATE] = now.rate;
        scalars[GRADIENT_SCALE] = scale;
        scalars[SKIP] = 0;
    }
}
