// The loss of one row, and its gradient: a struct per form of mlp.losses, where the formulas are.
// Its name is the form's in words that begin with a capital letter.
#pragma once
#include <row_group.cuh>

// The stand-ins for what log(0) and 1 / 0 would be.
template <class C>
__device__ __forceinline__ C floored_log(C a) {
    const C value = log(a);
    return value < C(-100) ? C(-100) : value;
}

template <class C>
__device__ __forceinline__ C floored_divisor(C a) {
    return a < C(1e-12) ? C(1e-12) : a;
}

// The smoothing that the parameter of a form of classes asks for.
template <class C>
__device__ __forceinline__ C smoothing_of(C parameter) {
    return parameter > C(0) ? parameter : C(0);
}

// A negative parameter -c clips the value to that of probabilities in [c, 1 - c]; NaN stays.
template <class C>
__device__ __forceinline__ C clipped(C value, C parameter) {
    if (!(parameter < C(0))) return value;
    const C least = -log1p(parameter), most = -log(-parameter);
    return value < least ? least : value > most ? most : value;
}

// --- class targets: output(k), target(k) of class k, already smoothed; put(k, gradient) ----------

struct SoftmaxCrossEntropy {
    static constexpr bool CLASSES = true;
    template <class C, int LANES, class Output, class TargetOf, class Put>
    static __device__ __forceinline__ C row(const RowGroup<LANES>& group, Output z, TargetOf t,
                                            C parameter, Put put) {
        const C top = group.largest(group.width > 0 ? z(0) : C(0), z);
        const C total = group.template sum<C>([&](long long k) { return exp(z(k) - top); });
        const C mass = group.template sum<C>(t);
        const C log_total = log(total);
        C value = 0;
        group.each([&](long long k) {
            const C shifted = z(k) - top, target = t(k);
            value -= target * (shifted - log_total);
            put(k, exp(shifted) / total * mass - target);
        });
        return clipped(sum_lanes<LANES>(value), parameter);
    }
};

struct CrossEntropy {
    static constexpr bool CLASSES = true;
    template <class C, int LANES, class Output, class TargetOf, class Put>
    static __device__ __forceinline__ C row(const RowGroup<LANES>& group, Output a, TargetOf t, C,
                                            Put put) {
        C value = 0;
        group.each([&](long long k) {
            value -= t(k) * floored_log(a(k));
            put(k, -t(k) / floored_divisor(a(k)));
        });
        return sum_lanes<LANES>(value);
    }
};

// --- the mean over the outputs of a value per output --------------------------------------------

// Form::element(a, y, parameter, gradient) returns the value for output a and target y.
template <class Form>
struct Mean {
    static constexpr bool CLASSES = false;
    template <class C, int LANES, class Output, class TargetOf, class Put>
    static __device__ __forceinline__ C row(const RowGroup<LANES>& group, Output a, TargetOf y,
                                            C parameter, Put put) {
        const C outputs = static_cast<C>(group.width);
        C value = 0;
        group.each([&](long long k) {
            C gradient;
            value += Form::element(a(k), y(k), parameter, gradient);
            put(k, gradient / outputs);
        });
        return sum_lanes<LANES>(value) / outputs;
    }
};

struct SigmoidCrossEntropy : Mean<SigmoidCrossEntropy> {
    template <class C>
    static __device__ __forceinline__ C element(C z, C y, C parameter, C& gradient) {
        const C e = exp(z < C(0) ? z : -z);
        const C a = (z < C(0) ? e : C(1)) / (C(1) + e);
        gradient = a - y;
        if (!(parameter < C(0))) return (z < C(0) ? C(0) : z) - z * y + log1p(e);
        // From the rounded probability, as scikit-learn does: 1 - a has few digits near 1.
        const C least = -parameter, most = C(1) + parameter;
        const C p = a < least ? least : a > most ? most : a;
        return -(y * log(p) + (C(1) - y) * log(C(1) - p));
    }
};

struct BinaryCrossEntropy : Mean<BinaryCrossEntropy> {
    template <class C>
    static __device__ __forceinline__ C element(C a, C y, C, C& gradient) {
        gradient = (a - y) / floored_divisor(a * (C(1) - a));
        return -(y * floored_log(a) + (C(1) - y) * floored_log(C(1) - a));
    }
};

struct HalfSquaredError : Mean<HalfSquaredError> {
    template <class C>
    static __device__ __forceinline__ C element(C a, C y, C, C& gradient) {
        gradient = a - y;
        return C(0.5) * gradient * gradient;
    }
};

struct Mse : Mean<Mse> {
    template <class C>
    static __device__ __forceinline__ C element(C a, C y, C, C& gradient) {
        const C error = a - y;
        gradient = C(2) * error;
        return error * error;
    }
};

struct Mae : Mean<Mae> {
    template <class C>
    static __device__ __forceinline__ C element(C a, C y, C, C& gradient) {
        const C error = a - y;
        gradient = error > C(0) ? C(1) : error < C(0) ? C(-1) : error;  // 0 and NaN stay
        return error < C(0) ? -error : error;
    }
};

struct Huber : Mean<Huber> {
    template <class C>
    static __device__ __forceinline__ C element(C a, C y, C delta, C& gradient) {
        const C error = a - y, size = error < C(0) ? -error : error;
        gradient = error < -delta ? -delta : error > delta ? delta : error;
        return size <= delta ? C(0.5) * error * error : delta * (size - C(0.5) * delta);
    }
};

struct Poisson : Mean<Poisson> {
    template <class C>
    static __device__ __forceinline__ C element(C a, C y, C, C& gradient) {
        const C rate = exp(a);
        gradient = rate - y;
        return rate - y * a;
    }
};
