// A factor of a matrix product as it lies in memory.
#pragma once

// Lines of `length` numbers each, one after the other. A product sums over depth: the lines of a
// factor are either its depth (ALONG_DEPTH false: a line holds one place of the depth, for all rows
// of the result) or its rows or columns (ALONG_DEPTH true: a line runs along the depth).
template <class T, bool ALONG_DEPTH>
struct Operand {
    using Number = T;
    static constexpr bool along_depth = ALONG_DEPTH;
    const T* data;
    int lines, length;
};
