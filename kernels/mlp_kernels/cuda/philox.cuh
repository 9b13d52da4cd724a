// Philox4x32-10, as mlp.random states it: the random words of a place depend on its key alone.
#pragma once

struct Words {
    unsigned word[4];
};

// The 128 bits of counter (block, stream, step) under a 64-bit key.
__device__ __forceinline__ Words philox(unsigned block, unsigned stream, unsigned long long step,
                                        unsigned long long key) {
    unsigned c0 = block, c1 = stream;
    unsigned c2 = static_cast<unsigned>(step), c3 = static_cast<unsigned>(step >> 32);
    unsigned k0 = static_cast<unsigned>(key), k1 = static_cast<unsigned>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

constexpr unsigned SHUFFLE_STREAM = 1u << 16;  // purpose * 2^16 + layer
constexpr unsigned DROPOUT_STREAM = 2u << 16;

// Places in the array of counters.
enum Counter { SEED, STEP, BATCH, SKIPPED };

// The dropout of one layer in one step, for numbers that are computed in C.
template <class C>
struct Dropout {
    unsigned threshold;  // an output is dropped where its random word is below this
    C scale;             // 1 / (1 - rate)
    unsigned stream;
    unsigned long long step, seed;

    __device__ __forceinline__ Dropout(unsigned threshold, C scale, int layer,
                                       const long long* counters)
        : threshold(threshold),
          scale(scale),
          stream(DROPOUT_STREAM + layer),
          step(counters[STEP]),
          seed(counters[SEED]) {}

    // 0 or 1 / (1 - rate) for the element of this row-major number.
    __device__ __forceinline__ C factor(long long element) const {
        const Words words = philox(static_cast<unsigned>(element >> 2), stream, step, seed);
        // Chosen by comparison: an index that is not a constant would put the words into memory.
        const unsigned low = element & 1 ? words.word[1] : words.word[0];
        const unsigned high = element & 1 ? words.word[3] : words.word[2];
        return (element & 2 ? high : low) < threshold ? C(0) : scale;
    }

    // x[e] *= factor(first + e); four that begin at a multiple of 4 share their random words.
    template <int N>
    __device__ __forceinline__ void apply(C (&x)[N], long long first) const {
        if (N % 4 != 0 || first % 4 != 0) {
#pragma unroll
            for (int e = 0; e < N; ++e) x[e] *= factor(first + e);
            return;
        }
#pragma unroll
        for (int k = 0; k < N; k += 4) {
            const Words words =
                philox(static_cast<unsigned>((first + k) >> 2), stream, step, seed);
#pragma unroll
            for (int e = 0; e < 4 && k + e < N; ++e) {
                x[k + e] *= words.word[e] < threshold ? C(0) : scale;
            }
        }
    }
};
