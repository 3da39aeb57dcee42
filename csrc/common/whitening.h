// Inverse Cholesky factors of small matrices. Included once per instruction set, after matmul.h.
#pragma once

#include "common/matmul.h"

namespace causalmmm {
namespace {

constexpr std::int64_t kBlock = 16;  // pivots at a time; a multiple of every kWidth

// [rows, columns] with rows `stride` apart.
void clear(float* p, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; c += kWidth) store(p + r * stride + c, Floats{}, kWidth);
  }
}

// to [size, stride] -= factor times row, of `columns`
CAUSALMMM_INLINE void subtract(float* to, float factor, const float* row, std::int64_t columns) {
  const Floats f = splat(factor);
  for (std::int64_t c = 0; c < columns; c += kWidth) {
    store(to + c, load(to + c, kWidth) - f * load(row + c, kWidth), kWidth);
  }
}

// Eliminates one block of `count` pivots: a and w point at its corner in A and W.
void eliminate_block(float* a, float* w, std::int64_t count, std::int64_t stride) {
  float column[kBlock];
  for (std::int64_t k = 0; k < count; ++k) {
    const float inverse = 1.0f / __builtin_sqrtf(a[k * stride + k]);
    for (std::int64_t i = 0; i < kBlock; ++i) {
      column[i] = i > k && i < count ? a[i * stride + k] * inverse : 0.0f;
    }
    for (std::int64_t c = 0; c < kBlock; ++c) w[k * stride + c] *= inverse;
    for (std::int64_t i = k + 1; i < count; ++i) {
      subtract(a + i * stride, column[i], column, kBlock);
      subtract(w + i * stride, column[i], w + k * stride, kBlock);
    }
  }
}

// Floats of scratch memory that `whiten` needs.
inline std::int64_t whitening_scratch(std::int64_t stride) { return (3 * kBlock + kBlock) * stride; }

// W [size, stride], lower triangular, with W A W' = I, from the lower triangle of A [size, stride],
// which is overwritten. The stride is a multiple of kBlock and at least `size`; W is zero beyond its
// triangle. Where A is not positive definite, W holds values that are not numbers.
void whiten(float* a, float* w, std::int64_t size, std::int64_t stride, float* scratch) {
  float* copy = scratch;                     // [kBlock, stride]
  float* across = copy + kBlock * stride;    // [kBlock, stride], minus the panel, transposed
  float* panel = across + kBlock * stride;   // [stride, kBlock], L below the block
  float* corner = panel + kBlock * stride;   // [kBlock, kBlock], the block's W', transposed
  clear(w, size, stride, stride);
  for (std::int64_t i = 0; i < size; ++i) w[i * stride + i] = 1.0f;
  for (std::int64_t begin = 0; begin < size; begin += kBlock) {
    const std::int64_t count = size - begin < kBlock ? size - begin : kBlock;
    const std::int64_t end = begin + count, rest = size - end;
    float* rows = w + begin * stride;
    eliminate_block(a + begin * stride + begin, rows + begin, count, stride);
    if (begin) {  // what earlier pivots left in these rows of W, times the block's own W
      for (std::int64_t k = 0; k < count; ++k) {
        for (std::int64_t c = 0; c < begin; c += kWidth) {
          store(copy + k * stride + c, load(rows + k * stride + c, kWidth), kWidth);
        }
      }
      matmul({rows + begin, stride, 1}, count, copy, stride, count, rows, stride, begin, false);
    }
    if (!rest) break;
    for (std::int64_t k = 0; k < count; ++k) {
      for (std::int64_t c = 0; c < kBlock; ++c) {
        corner[k * kBlock + c] = c < count ? rows[c * stride + begin + k] : 0.0f;
      }
      for (std::int64_t c = 0; c < end; c += kWidth) {
        store(copy + k * stride + c, -load(rows + k * stride + c, kWidth), kWidth);
      }
    }
    matmul({a + end * stride + begin, stride, 1}, rest, corner, kBlock, count, panel, kBlock, kBlock,
           false);
    for (std::int64_t k = 0; k < count; ++k) {
      for (std::int64_t i = 0; i < stride - end; ++i) {
        across[k * stride + i] = i < rest ? -panel[i * kBlock + k] : 0.0f;
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
