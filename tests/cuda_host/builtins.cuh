// CUDA's vector types, and the functions of numbers that need no other thread.
#pragma once

#define VECTOR(T, name, boundary2, boundary4)                                  \
    struct __align__(boundary2) name##2 {                                      \
        T x, y;                                                                \
    };                                                                         \
    struct __align__(boundary4) name##4 {                                      \
        T x, y, z, w;                                                          \
    };                                                                         \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                 \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTOR(float, float, 8, 16)
VECTOR(double, double, 16, 16)
VECTOR(int, int, 8, 16)
VECTOR(unsigned, uint, 8, 16)
VECTOR(short, short, 4, 8)
VECTOR(unsigned short, ushort, 4, 8)
VECTOR(unsigned char, uchar, 2, 4)
VECTOR(long long, longlong, 16, 16)
VECTOR(unsigned long long, ulonglong, 16, 16)
#undef VECTOR

// --- bits ---------------------------------------------------------------------------------------

inline unsigned __float_as_uint(float x) { return cuda_host::bits_of<unsigned>(x); }
inline int __float_as_int(float x) { return cuda_host::bits_of<int>(x); }
inline float __uint_as_float(unsigned x) { return cuda_host::bits_of<float>(x); }
inline float __int_as_float(int x) { return cuda_host::bits_of<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_host::bits_of<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_host::bits_of<double>(x); }
inline double __hiloint2double(int high, int low) {
    const unsigned long long bits = static_cast<unsigned long long>(static_cast<unsigned>(high));
    return cuda_host::bits_of<double>(bits << 32 | static_cast<unsigned>(low));
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned x, unsigned y) {
    return static_cast<unsigned>(static_cast<unsigned long long>(x) * y >> 32);
}
inline int __mulhi(int x, int y) { return static_cast<int>(static_cast<long long>(x) * y >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}

// --- conversions: out of range gives the nearest there is, NaN gives 0 ---------------------------

namespace cuda_host {
template <class To, class From>
To saturate(From x) {
    constexpr int bits = 8 * sizeof(To) - (To(-1) < To(0) ? 1 : 0);
    constexpr To most = static_cast<To>(~0ull >> (64 - bits));
    constexpr To least = To(-1) < To(0) ? static_cast<To>(~most) : To(0);
    if (x != x) return 0;
    if (x >= ldexp(From(1), bits)) return most;
    return x <= static_cast<From>(least) ? least : static_cast<To>(x);
}
}  // namespace cuda_host

#define CONVERSIONS(From, from, To, to)                                                        \
    inline To __##from##2##to##_rn(From x) { return cuda_host::saturate<To>(nearbyint(x)); }   \
    inline To __##from##2##to##_rz(From x) { return cuda_host::saturate<To>(trunc(x)); }       \
    inline To __##from##2##to##_rd(From x) { return cuda_host::saturate<To>(floor(x)); }       \
    inline To __##from##2##to##_ru(From x) { return cuda_host::saturate<To>(ceil(x)); }
CONVERSIONS(float, float, int, int)
CONVERSIONS(float, float, unsigned, uint)
CONVERSIONS(float, float, long long, ll)
CONVERSIONS(float, float, unsigned long long, ull)
CONVERSIONS(double, double, int, int)
CONVERSIONS(double, double, unsigned, uint)
CONVERSIONS(double, double, long long, ll)
CONVERSIONS(double, double, unsigned long long, ull)
#undef CONVERSIONS
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline float __ull2float_rn(unsigned long long x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline double __int2double_rn(int x) { return x; }
inline double __uint2double_rn(unsigned x) { return x; }
inline double __ll2double_rn(long long x) { return static_cast<double>(x); }

// --- arithmetic ---------------------------------------------------------------------------------

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }

#define LEAST_AND_MOST(T, least, most)                \
    inline T min(T x, T y) { return least; }          \
    inline T max(T x, T y) { return most; }
#define OF_INTEGERS(T) LEAST_AND_MOST(T, y < x ? y : x, x < y ? y : x)
OF_INTEGERS(int)
OF_INTEGERS(unsigned)
OF_INTEGERS(long)
OF_INTEGERS(unsigned long)
OF_INTEGERS(long long)
OF_INTEGERS(unsigned long long)
LEAST_AND_MOST(float, fminf(x, y), fmaxf(x, y))
LEAST_AND_MOST(double, fmin(x, y), fmax(x, y))
#undef OF_INTEGERS
#undef LEAST_AND_MOST
inline unsigned min(int x, unsigned y) { return min(static_cast<unsigned>(x), y); }
inline unsigned min(unsigned x, int y) { return min(x, static_cast<unsigned>(y)); }
inline unsigned max(int x, unsigned y) { return max(static_cast<unsigned>(x), y); }
inline unsigned max(unsigned x, int y) { return max(x, static_cast<unsigned>(y)); }
inline double min(float x, double y) { return fmin(x, y); }
inline double min(double x, float y) { return fmin(x, y); }
inline double max(float x, double y) { return fmax(x, y); }
inline double max(double x, float y) { return fmax(x, y); }

// --- loads and stores with a hint for the caches -------------------------------------------------

template <class T>
T __ldg(const T* p) {
    return *p;
}
template <class T>
T __ldcs(const T* p) {
    return *p;
}
template <class T>
T __ldcg(const T* p) {
    return *p;
}
template <class T>
void __stcs(T* p, T x) {
    *p = x;
}
template <class T>
void __stcg(T* p, T x) {
    *p = x;
}
