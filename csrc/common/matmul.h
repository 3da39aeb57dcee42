// Small dense matrix products in registers. Included once per instruction set, after vector.h.
#pragma once

#include "common/vector.h"

namespace causalmmm {
namespace {

constexpr int kSums = kWidth == 16 ? 24 : 12;  // kept in registers, of 32 or 16
constexpr int kVectorsAtOnce = kWidth == 16 ? 4 : 2;
constexpr int kMostRows = 12;

// Rows of a block of kVectors columns: as many as there are sums for. With fewer, narrow products
// would wait for loads and for the latency of their few sums.
template <int kVectors>
constexpr int kRowsAtOnce = kSums / kVectors < kMostRows ? kSums / kVectors : kMostRows;

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
#pragma GCC unroll 12
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
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      const Floats x = splat(left[i * a.row]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[i][v] += x * right[v];
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(c + i * c_row + v * kWidth, sum[i][v], kWidth);
  }
}

template <int kVectors>
void column_block(Strided a, std::int64_t rows, const float* b, std::int64_t b_row,
                  std::int64_t inner, float* c, std::int64_t c_row, bool add) {
  constexpr int kRows = kRowsAtOnce<kVectors>;
  for (; rows >= kRows; rows -= kRows) {
    block<kRows, kVectors>(a, b, b_row, inner, c, c_row, add);
    a.data += kRows * a.row;
    c += kRows * c_row;
  }
  if constexpr (kRows > 4) {
    for (; rows >= 4; rows -= 4) {
      block<4, kVectors>(a, b, b_row, inner, c, c_row, add);
      a.data += 4 * a.row;
      c += 4 * c_row;
    }
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
  if constexpr (kVectorsAtOnce > 2) {
    for (; j + 2 * kWidth <= columns; j += 2 * kWidth) {
      column_block<2>(a, rows, b + j, b_row, inner, c + j, c_row, add);
    }
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
