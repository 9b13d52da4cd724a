// The number types of arrays, and the type in which a kernel computes with them.
#pragma once
#include <intrinsics.cuh>

// double for double, float for everything shorter.
template <class T>
struct ComputeType {
    using type = float;
};
template <>
struct ComputeType<double> {
    using type = double;
};
template <class T>
using Compute = typename ComputeType<T>::type;

__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bfloat16 x) { return to_float(x); }
__device__ __forceinline__ float widen(float16 x) { return to_float(x); }

// The nearest number of type T.
template <class T>
__device__ __forceinline__ T narrow(double x);
template <>
__device__ __forceinline__ double narrow<double>(double x) {
    return x;
}
template <>
__device__ __forceinline__ float narrow<float>(double x) {
    return static_cast<float>(x);
}
template <class T>
__device__ __forceinline__ T narrow(float x);
template <>
__device__ __forceinline__ double narrow<double>(float x) {
    return x;
}
template <>
__device__ __forceinline__ float narrow<float>(float x) {
    return x;
}
template <>
__device__ __forceinline__ bfloat16 narrow<bfloat16>(float x) {
    return to_bfloat16(x);
}
template <>
__device__ __forceinline__ float16 narrow<float16>(float x) {
    return to_float16(x);
}
