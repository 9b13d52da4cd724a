// The update of one parameter by each optimizer: mlp/optimizers.py states the formulas and sources.
//
// `setting` are the numbers of the rule of the same name in optimizers.py, in its order, and state
// its arrays' elements. begin() computes once, in double, what depends on no element; step() takes
// the parameter p and the gradient g and returns the new p. KEEPS has a bit for each state array.
#pragma once

struct Moment {
    double rate;  // learning rate
    double t;     // the step, from 1
};

template <class C, int KEEPS>
struct Sgd {  // state: velocity
    C lr, momentum, take, decay;
    bool first, nesterov;

    __device__ __forceinline__ void begin(const double* setting, Moment now) {
        lr = static_cast<C>(now.rate);
        momentum = static_cast<C>(setting[0]);
        take = static_cast<C>(1 - setting[1]);
        decay = static_cast<C>(setting[2]);
        nesterov = setting[3] != 0;
        first = now.t == 1;
    }

    __device__ __forceinline__ C step(C p, C g, C* state) const {
        g += decay * p;
        if (!KEEPS) return p - lr * g;
        const C v = first ? g : momentum * state[0] + take * g;  // the first is not dampened
        state[0] = v;
        return p - lr * (nesterov ? g + momentum * v : v);
    }
};

template <class C, int KEEPS>
struct Rmsprop {  // state: square, mean, velocity
    C lr, keep, take, eps, decay, momentum;

    __device__ __forceinline__ void begin(const double* setting, Moment now) {
        lr = static_cast<C>(now.rate);
        keep = static_cast<C>(setting[0]);
        take = static_cast<C>(1 - setting[0]);
        eps = static_cast<C>(setting[1]);
        decay = static_cast<C>(setting[2]);
        momentum = static_cast<C>(setting[3]);
    }

    __device__ __forceinline__ C step(C p, C g, C* state) const {
        g += decay * p;
        C variance = state[0] = keep * state[0] + take * g * g;
        if (KEEPS & 2) {
            const C mean = state[1] = keep * state[1] + take * g;
            variance -= mean * mean;
            variance = variance < C(0) ? C(0) : variance;  // rounding may leave it just below 0
        }
        C along = g / (sqrt(variance) + eps);
        if (KEEPS & 4) along = state[2] = momentum * state[2] + along;
        return p - lr * along;
    }
};

template <class C, int KEEPS>
struct Adagrad {  // state: total
    C lr, decay, eps;

    __device__ __forceinline__ void begin(const double* setting, Moment now) {
        lr = static_cast<C>(now.rate / (1 + (now.t - 1) * setting[0]));
        decay = static_cast<C>(setting[1]);
        eps = static_cast<C>(setting[2]);
    }

    __device__ __forceinline__ C step(C p, C g, C* state) const {
        g += decay * p;
        state[0] += g * g;
        return p - lr * g / (sqrt(state[0]) + eps);
    }
};

template <class C, int KEEPS>
struct Adam {  // state: m, v, v_max
    C lr, keep1, take1, keep2, take2, eps, decay, shrink, root;

    __device__ __forceinline__ void begin(const double* setting, Moment now) {
        const bool decoupled = setting[4] != 0;
        lr = static_cast<C>(now.rate / (1 - pow(setting[0], now.t)));
        keep1 = static_cast<C>(setting[0]);
        take1 = static_cast<C>(1 - setting[0]);
        keep2 = static_cast<C>(setting[1]);
        take2 = static_cast<C>(1 - setting[1]);
        const double of_root = sqrt(1 - pow(setting[1], now.t));
        root = static_cast<C>(of_root);
        eps = static_cast<C>(setting[5] != 0 ? setting[2] / of_root : setting[2]);
        decay = static_cast<C>(decoupled ? 0 : setting[3]);
        shrink = static_cast<C>(decoupled ? 1 - now.rate * setting[3] : 1);
    }

    __device__ __forceinline__ C step(C p, C g, C* state) const {
        g += decay * p;
        p *= shrink;
        const C m = state[0] = keep1 * state[0] + take1 * g;
        C v = state[1] = keep2 * state[1] + take2 * g * g;
        if (KEEPS & 4) {
            if (v > state[2] || v != v) state[2] = v;  // the larger; NaN of either stays
            v = state[2];
        }
        return p - lr * m / (sqrt(v) / root + eps);
    }
};

template <class C, int KEEPS>
struct Lion {  // state: m
    C lr, keep1, take1, keep2, take2, decay;

    __device__ __forceinline__ void begin(const double* setting, Moment now) {
        lr = static_cast<C>(now.rate);
        keep1 = static_cast<C>(setting[0]);
        take1 = static_cast<C>(1 - setting[0]);
        keep2 = static_cast<C>(setting[1]);
        take2 = static_cast<C>(1 - setting[1]);
        decay = static_cast<C>(setting[2]);
    }

    __device__ __forceinline__ C step(C p, C g, C* state) const {
        const C mix = keep1 * state[0] + take1 * g;
        const C direction = mix > C(0) ? C(1) : mix < C(0) ? C(-1) : mix;  // 0 and NaN stay
        state[0] = keep2 * state[0] + take2 * g;
        return p - lr * (direction + decay * p);
    }
};
