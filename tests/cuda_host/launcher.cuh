// What a built kernel file exports, so that one C function can start any kernel from `void**`.
#pragma once
#include "runtime.cuh"

#include <type_traits>
#include <utility>

namespace cuda_host {

// A parameter, or what one points to: one letter for its kind, and its size in bytes.
struct Type {
    char kind;  // p pointer, b bool, i signed, u unsigned, f float, V anything else
    unsigned char size;
};

template <class T>
constexpr Type type_of() {
    if constexpr (std::is_void_v<T>) {
        return {'V', 0};
    } else {
        const char kind = std::is_pointer_v<T>            ? 'p'
                          : std::is_same_v<T, bool>       ? 'b'
                          : std::is_floating_point_v<T>   ? 'f'
                          : std::is_integral_v<T>         ? (std::is_signed_v<T> ? 'i' : 'u')
                                                          : 'V';
        return {kind, sizeof(T)};
    }
}

template <class... P>
struct Signature {
    static constexpr int count = sizeof...(P);
    // One more than there are, since an array of none is not allowed.
    static constexpr Type parameters[] = {type_of<P>()..., {}};
    static constexpr Type pointees[] = {
        type_of<std::remove_cv_t<std::remove_pointer_t<P>>>()..., {}};

    template <size_t... I>
    static void call(void (*kernel)(P...), void** values, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_const_t<P>*>(values[I])...);
    }
    static void call(void (*kernel)(P...), void** values) {
        call(kernel, values, std::index_sequence_for<P...>{});
    }
};

template <class... P>
Signature<P...> signature_of(void (*)(P...));

}  // namespace cuda_host

extern "C" __attribute__((visibility("hidden"))) unsigned char __ehdr_start[];

#define EXPORT extern "C" __attribute__((visibility("default")))
#define EXPORT_KERNEL(name)                                                                   \
    using KernelSignature = decltype(cuda_host::signature_of(&name));                         \
    EXPORT void cuda_host_call(void** values) { KernelSignature::call(&name, values); }       \
    EXPORT unsigned char* cuda_host_base() { return __ehdr_start; }                           \
    EXPORT int cuda_host_count() { return KernelSignature::count; }                           \
    EXPORT const cuda_host::Type* cuda_host_types(int of_pointees) {                          \
        return of_pointees ? KernelSignature::pointees : KernelSignature::parameters;         \
    }
