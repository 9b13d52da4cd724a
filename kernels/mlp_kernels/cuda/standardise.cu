// Features as the network sees them.
//
// Macros: FROM, any type of elements; TO.
#include <elements.cuh>

// out = (x - mean) / scale in double, rounded at the end: x, out (rows, width); mean and scale
// (width,) or null. `lanes` threads share a row.
extern "C" __global__ void standardise(const FROM* x, const double* mean, const double* scale,
                                       TO* out, long long rows, long long width, int lanes) {
    for_rows(rows, width, lanes, 1, [&](long long row, long long column) {
        double value = number<double>(x[row * width + column]);
        if (mean) value -= mean[column];
        if (scale) value /= scale[column];
        out[row * width + column] = narrow<TO>(number<Compute<TO>>(value));
    });
}
