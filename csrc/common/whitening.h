// Inverse Cholesky factors of small matrices. Included once per instruction set, after matmul.h.
#pragma once

#include "common/matmul.h"

namespace causalmmm {
namespace {

constexpr std::int64_t kBlock = 16;  // pivots at a time; a multiple of every kWidth

CAUSALMMM_INLINE float square_root(float v) { return __builtin_sqrtf(v); }
CAUSALMMM_INLINE double square_root(double v) { return __builtin_sqrt(v); }

// [rows, columns] with rows `stride` apart.
template <class T>
void clear(T* p, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; c += kLanes<T>) store_all(p + r * stride + c, Vector<T>{});
  }
}

// to [size, stride] -= factor times row, of `columns`
template <class T>
CAUSALMMM_INLINE void subtract(T* to, T factor, const T* row, std::int64_t columns) {
  const Vector<T> f = factor - Vector<T>{};
  for (std::int64_t c = 0; c < columns; c += kLanes<T>) {
    store_all(to + c, load_all(to + c) - f * load_all(row + c));
  }
}

// Eliminates one block of `count` pivots: a and w point at its corner in A and W.
template <class T>
void eliminate_block(T* a, T* w, std::int64_t count, std::int64_t stride) {
  T column[kBlock];
  for (std::int64_t k = 0; k < count; ++k) {
    const T inverse = T{1} / square_root(a[k * stride + k]);
    for (std::int64_t i = 0; i < kBlock; ++i) {
      column[i] = i > k && i < count ? a[i * stride + k] * inverse : T{};
    }
    for (std::int64_t c = 0; c < kBlock; ++c) w[k * stride + c] *= inverse;
    for (std::int64_t i = k + 1; i < count; ++i) {
      subtract(a + i * stride, column[i], column, kBlock);
      subtract(w + i * stride, column[i], w + k * stride, kBlock);
    }
  }
}

// Numbers of scratch memory that `whiten` needs.
inline std::int64_t whitening_scratch(std::int64_t stride) { return (3 * kBlock + kBlock) * stride; }

// W [size, stride], lower triangular, with W A W' = I, from the lower triangle of A [size, stride],
// which is overwritten. The stride is a multiple of kBlock and at least `size`; W is zero beyond its
// triangle. Where A is not positive definite, W holds values that are not numbers.
template <class T>
void whiten(T* a, T* w, std::int64_t size, std::int64_t stride, T* scratch) {
  T* copy = scratch;                     // [kBlock, stride]
  T* across = copy + kBlock * stride;    // [kBlock, stride], minus the panel, transposed
  T* panel = across + kBlock * stride;   // [stride, kBlock], L below the block
  T* corner = panel + kBlock * stride;   // [kBlock, kBlock], the block's W', transposed
  clear(w, size, stride, stride);
  for (std::int64_t i = 0; i < size; ++i) w[i * stride + i] = T{1};
  for (std::int64_t begin = 0; begin < size; begin += kBlock) {
    const std::int64_t count = size - begin < kBlock ? size - begin : kBlock;
    const std::int64_t end = begin + count, rest = size - end;
    T* rows = w + begin * stride;
    eliminate_block(a + begin * stride + begin, rows + begin, count, stride);
    if (begin) {  // what earlier pivots left in these rows of W, times the block's own W
      for (std::int64_t k = 0; k < count; ++k) {
        for (std::int64_t c = 0; c < begin; c += kLanes<T>) {
          store_all(copy + k * stride + c, load_all(rows + k * stride + c));
        }
      }
      matmul({rows + begin, stride, 1}, count, copy, stride, count, rows, stride, begin, false);
    }
    if (!rest) break;
    for (std::int64_t k = 0; k < count; ++k) {
      for (std::int64_t c = 0; c < kBlock; ++c) {
        corner[k * kBlock + c] = c < count ? rows[c * stride + begin + k] : T{};
      }
      for (std::int64_t c = 0; c < end; c += kLanes<T>) {
        store_all(copy + k * stride + c, -load_all(rows + k * stride + c));
      }
    }
    matmul({a + end * stride + begin, stride, 1}, rest, corner, kBlock, count, panel, kBlock, kBlock,
           false);
    for (std::int64_t k = 0; k < count; ++k) {
      for (std::int64_t i = 0; i < stride - end; ++i) {
        across[k * stride + i] = i < rest ? -panel[i * kBlock + k] : T{};
      }
    }
    for (std::int64_t c = 0; c < rest; c += kBlock) {  // of A only what is on or below the diagonal
      matmul({panel + c * kBlock, kBlock, 1}, rest - c, across + c, stride, count,
             a + (end + c) * stride + end + c, stride, kBlock, true);
    }
    matmul({panel, kBlock, 1}, rest, copy, stride, count, w + end * stride, stride, end, true);
  }
}

}  // namespace
}  // namespace causalmmm
