// Small dense matrix products in registers. Included once per instruction set, after vector.h.
#pragma once

#include "common/vector.h"

namespace causalmmm {
namespace {

constexpr int kRowsAtOnce = 6;
constexpr int kVectorsAtOnce = kWidth == 16 ? 4 : 2;  // 24 sums of 32 registers, or 12 of 16

// A matrix whose rows and columns are this many elements apart.
struct Strided {
  const float* data;
  std::int64_t row, column;
};

// c[kRows, kVectors] += a b over `inner`, or = without `add`.
template <int kRows, int kVectors>
CAUSALMMM_INLINE void block(const Strided& a, const float* b, std::int64_t b_row, std::int64_t inner,
                            float* c, std::int64_t c_row, bool add) {
  Floats sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = add ? load(c + i * c_row + v * kWidth, kWidth) : Floats{};
    }
  }
  const float* left = a.data;
  for (std::int64_t k = 0; k < inner; ++k, left += a.column, b += b_row) {
    Floats right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * kWidth, kWidth);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Floats x = splat(left[i * a.row]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[i][v] += x * right[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(c + i * c_row + v * kWidth, sum[i][v], kWidth);
  }
}

template <int kVectors>
void column_block(Strided a, std::int64_t rows, const float* b, std::int64_t b_row,
                  std::int64_t inner, float* c, std::int64_t c_row, bool add) {
  for (; rows >= kRowsAtOnce; rows -= kRowsAtOnce) {
    block<kRowsAtOnce, kVectors>(a, b, b_row, inner, c, c_row, add);
    a.data += kRowsAtOnce * a.row;
    c += kRowsAtOnce * c_row;
  }
  for (; rows >= 2; rows -= 2) {
    block<2, kVectors>(a, b, b_row, inner, c, c_row, add);
    a.data += 2 * a.row;
    c += 2 * c_row;
  }
  if (rows) block<1, kVectors>(a, b, b_row, inner, c, c_row, add);
}

// c [rows, columns] = a [rows, inner] b [inner, columns], added to c with `add`. Rows of b and c are
// b_row and c_row elements apart; columns must be a multiple of kWidth.
[[maybe_unused]] void matmul(const Strided& a, std::int64_t rows, const float* b, std::int64_t b_row,
                             std::int64_t inner, float* c, std::int64_t c_row, std::int64_t columns,
                             bool add) {
  std::int64_t j = 0;
  for (; j + kVectorsAtOnce * kWidth <= columns; j += kVectorsAtOnce * kWidth) {
    column_block<kVectorsAtOnce>(a, rows, b + j, b_row, inner, c + j, c_row, add);
  }
  for (; j < columns; j += kWidth) {
    column_block<1>(a, rows, b + j, b_row, inner, c + j, c_row, add);
  }
}

// The same for dense b and c.
[[maybe_unused]] void matmul(const Strided& a, std::int64_t rows, const float* b, std::int64_t inner,
                             float* c, std::int64_t columns, bool add) {
  matmul(a, rows, b, columns, inner, c, columns, columns, add);
}

}  // namespace
}  // namespace causalmmm
