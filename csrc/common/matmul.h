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
template <class T>
struct StridedOf {
  const T* data;
  std::int64_t row, column;
};
using Strided = StridedOf<float>;

// c[kRows, kVectors] += a b over `inner`, or = without `add`.
template <int kRows, int kVectors, class T>
CAUSALMMM_INLINE void block(const StridedOf<T>& a, const T* b, std::int64_t b_row, std::int64_t inner,
                            T* c, std::int64_t c_row, bool add) {
  Vector<T> sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = add ? load_all(c + i * c_row + v * kLanes<T>) : Vector<T>{};
    }
  }
  const T* left = a.data;
  for (std::int64_t k = 0; k < inner; ++k, left += a.column, b += b_row) {
    Vector<T> right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) right[v] = load_all(b + v * kLanes<T>);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      const Vector<T> x = left[i * a.row] - Vector<T>{};
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[i][v] += x * right[v];
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store_all(c + i * c_row + v * kLanes<T>, sum[i][v]);
  }
}

template <int kVectors, class T>
void column_block(StridedOf<T> a, std::int64_t rows, const T* b, std::int64_t b_row,
                  std::int64_t inner, T* c, std::int64_t c_row, bool add) {
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
// b_row and c_row elements apart; columns must be a multiple of kLanes<T>.
template <class T>
[[maybe_unused]] void matmul(const StridedOf<T>& a, std::int64_t rows, const T* b, std::int64_t b_row,
                             std::int64_t inner, T* c, std::int64_t c_row, std::int64_t columns,
                             bool add) {
  std::int64_t j = 0;
  for (; j + kVectorsAtOnce * kLanes<T> <= columns; j += kVectorsAtOnce * kLanes<T>) {
    column_block<kVectorsAtOnce>(a, rows, b + j, b_row, inner, c + j, c_row, add);
  }
  if constexpr (kVectorsAtOnce > 2) {
    for (; j + 2 * kLanes<T> <= columns; j += 2 * kLanes<T>) {
      column_block<2>(a, rows, b + j, b_row, inner, c + j, c_row, add);
    }
  }
  for (; j < columns; j += kLanes<T>) {
    column_block<1>(a, rows, b + j, b_row, inner, c + j, c_row, add);
  }
}

// The same for dense b and c.
template <class T>
[[maybe_unused]] void matmul(const StridedOf<T>& a, std::int64_t rows, const T* b, std::int64_t inner,
                             T* c, std::int64_t columns, bool add) {
  matmul(a, rows, b, columns, inner, c, columns, columns, add);
}

}  // namespace
}  // namespace causalmmm
