// Products of warpgroups, by the canonical layouts and fragments of the PTX ISA manual. Each warp
// does its own rows; a product is made at once, or when a wait says that it must be.
#define __CUDA_ARCH__ 900
#include "engine.h"
#include "warpgroup.cuh"

namespace cuda_host {
namespace {

// A number's place in an operand of permuted segments of 128 bytes: `across` the depth, 64 places
// make a segment; else 64 depths. The permutation is of an address's bits 4-6 by its bits 7-9.
unsigned short element(unsigned long long descriptor, bool across, int place, int depth) {
    const unsigned start = (descriptor & 0x3FFF) << 4, leading = (descriptor >> 16 & 0x3FFF) << 4;
    const unsigned stride = (descriptor >> 32 & 0x3FFF) << 4;
    const unsigned in_line = across ? place % 64 * 2 : depth * 2;
    const unsigned line = across ? depth / 8 * stride + depth % 8 * 128 + place / 64 * leading
                                 : place / 8 * stride + place % 8 * 128;
    const unsigned at = start + line + in_line;
    const unsigned char* const address = dynamic_shared() + (at ^ (at >> 7 & 7) << 4);
    unsigned short bits;
    memcpy(&bits, address, 2);
    return bits;
}

float value(const GroupProduct& product, unsigned long long descriptor, bool across, int place,
            int depth) {
    const unsigned short bits = element(descriptor, across, place, depth);
    return product.of_bfloat16 ? to_float(bfloat16{bits}) : to_float(float16{bits});
}

// The rows of a warp: rows of a from 16 times the warp's number in its group on.
void multiply(const GroupProduct& product, float* const (&sums)[LANES], unsigned warp) {
    double a[16][16], b[16][128];
    for (int i = 0; i < 16; ++i) {
        for (int k = 0; k < 16; ++k) {
            a[i][k] = value(product, product.a, product.across_a, 16 * (warp % 4) + i, k);
        }
        for (int j = 0; j < 128; ++j) b[i][j] = value(product, product.b, product.across_b, j, i);
    }
    for (unsigned lane = 0; lane < LANES; ++lane) {
        for (int i = 0; i < 64; ++i) {
            const int row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
            double sum = sums[lane][i];
            for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
            sums[lane][i] = static_cast<float>(sum);
        }
    }
}

// Makes all products of a warp whose groups come before `group`; its threads have asked for the
// same.
void make(void* (&operand)[32], unsigned) {
    Thread* threads[LANES];
    for (unsigned i = 0; i < LANES; ++i) threads[i] = static_cast<Thread*>(operand[i]);
    const unsigned warp = threads[0]->rank / LANES;
    auto& queue = threads[0]->products;
    size_t done = 0;
    while (done < queue.size() && queue[done].group < threads[0]->made) {
        float* sums[LANES];
        for (unsigned lane = 0; lane < LANES; ++lane) sums[lane] = threads[lane]->products[done].c;
        multiply(queue[done], sums, warp);
        ++done;
    }
    for (Thread* thread : threads) {
        thread->products.erase(thread->products.begin(), thread->products.begin() + done);
    }
}

void make_before(unsigned group, const char* what, const char* file, int line) {
    current->made = group;
    together(what, make, 0xFFFFFFFFu, current, file, line);
}

}  // namespace

unsigned offset_in_shared(const void* p) {
    return static_cast<unsigned>(static_cast<const unsigned char*>(p) - dynamic_shared());
}

unsigned long long matrix_descriptor(const void* shared, unsigned leading, unsigned stride,
                                     const char* file, int line) {
    check_shared(shared, 16, 16, "matrix_descriptor", file, line);
    const unsigned long long start = offset_in_shared(shared);
    return start >> 4 | static_cast<unsigned long long>(leading >> 4) << 16 |
           static_cast<unsigned long long>(stride >> 4) << 32 | 1ull << 62;
}

void show_to_products() { current->shown = true; }

void begin_products(const char* file, int line) {
    if (!current->shown) {
        fail(file, line, "begin_products, and copies have arrived since show_to_products");
    }
}

void start_product(float* c, unsigned long long a, unsigned long long b, bool across_a,
                   bool across_b, bool of_bfloat16, const char* file, int line) {
    current->products.push_back({c, a, b, across_a, across_b, of_bfloat16, current->product_group});
    // Where copies come early, products are late, so that they would read what is copied too soon.
    if (!early_copies) make_before(current->product_group + 1, "start_product", file, line);
}

void commit_products() { ++current->product_group; }

void wait_for_products(unsigned pending, const char* file, int line) {
    const unsigned groups = current->product_group;
    make_before(groups > pending ? groups - pending : 0, "wait_for_products", file, line);
}

}  // namespace cuda_host
