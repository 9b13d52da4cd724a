// Tensor-core instructions, by the fragment layouts of the PTX ISA manual.
#define __CUDA_ARCH__ 900
#include "engine.h"
#include "intrinsics.cuh"

namespace cuda_host {
namespace {

struct Load {
    unsigned* part;
    const unsigned short* row;
    bool transposed;
};

// Thread i of the first 8 gives the rows of matrix 0, the next 8 of matrix 1, and so on. Thread i
// receives two neighbouring numbers of row i / 4, beginning in column 2 (i % 4).
void load(void* (&operand)[32], unsigned) {
    for (int matrix = 0; matrix < 4; ++matrix) {
        unsigned short stored[8][8], element[8][8];
        for (int row = 0; row < 8; ++row) {
            memcpy(stored[row], static_cast<Load*>(operand[8 * matrix + row])->row, 16);
        }
        for (int i = 0; i < 8; ++i) {
            for (int j = 0; j < 8; ++j) {
                element[i][j] = static_cast<Load*>(operand[0])->transposed ? stored[j][i]
                                                                           : stored[i][j];
            }
        }
        for (int thread = 0; thread < 32; ++thread) {
            const unsigned short* pair = &element[thread / 4][2 * (thread % 4)];
            static_cast<Load*>(operand[thread])->part[matrix] = pair[0] | pair[1] << 16;
        }
    }
}

struct Product {
    float* c;
    const unsigned *a, *b;
};

float half_of(unsigned pair, int which, Operands type) {
    const auto bits = static_cast<unsigned short>(pair >> 16 * which);
    return type == Operands::bfloat16 ? to_float(bfloat16{bits}) : to_float(float16{bits});
}

// One float32 product per element: all products exact, summed in double, rounded once.
template <int DEPTH>
void accumulate(void* (&operand)[32], const double (&a)[16][DEPTH], const double (&b)[DEPTH][8]) {
    for (int thread = 0; thread < 32; ++thread) {
        const int group = thread >> 2, in_group = thread % 4;
        float* c = static_cast<Product*>(operand[thread])->c;
        for (int i = 0; i < 4; ++i) {
            const int row = i < 2 ? group : group + 8, column = in_group * 2 + (i & 1);
            double sum = c[i];
            for (int k = 0; k < DEPTH; ++k) sum += a[row][k] * b[k][column];
            c[i] = static_cast<float>(sum);
        }
    }
}

// m16n8k16. A's elements 0..7 and B's 0..3 of a thread are the halves of its registers in turn.
template <Operands TYPE>
void product_of_halves(void* (&operand)[32], unsigned) {
    double a[16][16], b[16][8];
    for (int thread = 0; thread < 32; ++thread) {
        const auto* mine = static_cast<Product*>(operand[thread]);
        const int group = thread >> 2, in_group = thread % 4;
        for (int i = 0; i < 8; ++i) {
            const int row = (i < 2 || (4 <= i && i < 6)) ? group : group + 8;
            const int column = in_group * 2 + (i & 1) + (i < 4 ? 0 : 8);
            a[row][column] = half_of(mine->a[i / 2], i % 2, TYPE);
        }
        for (int i = 0; i < 4; ++i) {
            const int row = in_group * 2 + (i & 1) + (i < 2 ? 0 : 8);
            b[row][group] = half_of(mine->b[i / 2], i % 2, TYPE);
        }
    }
    accumulate(operand, a, b);
}

// m16n8k8 of tf32. The low 13 bits of an operand are not looked at.
void product_of_tf32(void* (&operand)[32], unsigned) {
    double a[16][8], b[8][8];
    for (int thread = 0; thread < 32; ++thread) {
        const auto* mine = static_cast<Product*>(operand[thread]);
        const int group = thread >> 2, in_group = thread % 4;
        for (int i = 0; i < 4; ++i) {
            const int row = (i == 0 || i == 2) ? group : group + 8;
            const int column = i < 2 ? in_group : in_group + 4;
            a[row][column] = __uint_as_float(mine->a[i] & ~0x1FFFu);
        }
        for (int i = 0; i < 2; ++i) {
            b[in_group + 4 * i][group] = __uint_as_float(mine->b[i] & ~0x1FFFu);
        }
    }
    accumulate(operand, a, b);
}

}  // namespace

void load_matrices(unsigned* part, const void* row, bool transposed, const char* file, int line) {
    const char* what = transposed ? "load_matrices_transposed" : "load_matrices";
    check_shared(row, 16, 16, what, file, line);
    Load mine{part, static_cast<const unsigned short*>(row), transposed};
    together(what, load, 0xFFFFFFFFu, &mine, file, line);
}

void multiply_add(float* c, const unsigned* a, const unsigned* b, Operands type, const char* file,
                  int line) {
    Product mine{c, a, b};
    const Operation operation = type == Operands::tf32      ? product_of_tf32
                                : type == Operands::float16 ? product_of_halves<Operands::float16>
                                                            : product_of_halves<Operands::bfloat16>;
    together("multiply_add", operation, 0xFFFFFFFFu, &mine, file, line);
}

}  // namespace cuda_host
