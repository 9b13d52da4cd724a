// The activation table, apart from softmax: mlp/activations.py states and sources every formula.
//
// A struct per activation, for -DACTIVATION=Relu: the name of mlp.activations in words that begin
// with a capital letter (gelu_tanh: GeluTanh). `saved` is what the backward pass keeps, z
// where SAVES_Z and else a. C is float or double. NaN comes out where NaN goes in.
#pragma once

struct Identity {
    static constexpr bool SAVES_Z = false;
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return z;
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C) {
        return C(1);
    }
};

struct Relu {
    static constexpr bool SAVES_Z = false;
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return z < C(0) ? C(0) : z;  // unlike fmax, it passes NaN on
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C a) {
        return a > C(0) ? C(1) : C(0);
    }
};

struct LeakyRelu {
    static constexpr bool SAVES_Z = false;
    static constexpr double SLOPE = 0.01;
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return z > C(0) ? z : C(SLOPE) * z;
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C a) {
        return a > C(0) ? C(1) : C(SLOPE);
    }
};

struct Elu {
    static constexpr bool SAVES_Z = false;
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return z > C(0) ? z : expm1(z);
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C a) {
        return a > C(0) ? C(1) : a + C(1);
    }
};

struct Selu {
    static constexpr bool SAVES_Z = false;
    static constexpr double ALPHA = 1.6732632423543772848170429916717;
    static constexpr double SCALE = 1.0507009873554804934193349852946;
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return C(SCALE) * (z > C(0) ? z : C(ALPHA) * expm1(z));
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C a) {
        return a > C(0) ? C(SCALE) : a + C(SCALE * ALPHA);
    }
};

struct Gelu {
    static constexpr bool SAVES_Z = true;
    template <class C>
    static __device__ __forceinline__ C normal_cdf(C z) {
        // erfc keeps the relative precision of the left tail, which 1 + erf cancels away.
        return C(0.5) * erfc(z * C(-0.70710678118654752440));
    }
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return z * normal_cdf(z);
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C z) {
        const C density = exp(C(-0.5) * z * z) * C(0.39894228040143267794);  // 1 / sqrt(2 pi)
        return normal_cdf(z) + z * density;
    }
};

struct GeluTanh {
    static constexpr bool SAVES_Z = true;
    static constexpr double CUBIC = 0.044715;
    static constexpr double ROOT = 0.79788456080286535588;  // sqrt(2 / pi)
    template <class C>
    static __device__ __forceinline__ C inner(C z) {
        return tanh(C(ROOT) * (z + C(CUBIC) * z * z * z));
    }
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return C(0.5) * z * (C(1) + inner(z));
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C z) {
        const C t = inner(z), slope = C(ROOT) * (C(1) + C(3 * CUBIC) * z * z);
        return C(0.5) * (C(1) + t) + C(0.5) * z * (C(1) - t * t) * slope;
    }
};

struct Sigmoid {
    static constexpr bool SAVES_Z = false;
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        // exp of a non-positive number only, so that nothing overflows on either side.
        const C e = exp(z < C(0) ? z : -z);
        return (z < C(0) ? e : C(1)) / (C(1) + e);
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C a) {
        return a * (C(1) - a);
    }
};

struct Silu {
    static constexpr bool SAVES_Z = true;
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return z * Sigmoid::forward(z);
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C z) {
        const C s = Sigmoid::forward(z);
        return s * (C(1) + z * (C(1) - s));
    }
};

struct Tanh {
    static constexpr bool SAVES_Z = false;
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return tanh(z);
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C a) {
        return C(1) - a * a;
    }
};

struct Softplus {
    static constexpr bool SAVES_Z = false;
    template <class C>
    static __device__ __forceinline__ C forward(C z) {
        return (z < C(0) ? C(0) : z) + log1p(exp(z < C(0) ? z : -z));
    }
    template <class C>
    static __device__ __forceinline__ C derivative(C a) {
        return -expm1(-a);
    }
};
