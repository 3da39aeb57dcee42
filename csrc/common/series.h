// Scratch memory in pieces, series in it, and elementary functions that several operators need.
// Included once per instruction set, after CAUSALMMM_WIDTH is set.
#pragma once

#include "common/vector.h"

namespace causalmmm {
namespace {

inline std::int64_t multiple(std::int64_t count, std::int64_t of) { return (count + of - 1) / of * of; }

// Pieces of scratch memory, each on a cache line; without memory it only counts.
struct Pieces {
  float* memory;
  std::int64_t used = 0;

  float* take(std::int64_t floats) {
    float* piece = memory ? memory + used : nullptr;
    used += multiple(floats, 16);
    return piece;
  }

  double* take_doubles(std::int64_t doubles) { return reinterpret_cast<double*>(take(2 * doubles)); }
};

// to [steps, to_row] = from [count, steps] transposed; further columns up to `to_row` are zero
[[maybe_unused]] void transpose(const float* from, std::int64_t count, std::int64_t from_row,
                                std::int64_t steps, float* to, std::int64_t to_row) {
  for (std::int64_t t = 0; t < steps; ++t) {
    for (std::int64_t r = count; r < to_row; ++r) to[t * to_row + r] = 0.0f;
  }
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t t = 0; t < steps; ++t) to[t * to_row + r] = from[r * from_row + t];
  }
}

// used [steps - lags]: 1 for context rows with `lags` rows of history before them; returns their sum
[[maybe_unused]] float rows_with_lags(const std::uint8_t* mask, std::int64_t steps,
                                      std::int64_t lags, float* used) {
  float total = 0.0f;
  bool begun = false;
  for (std::int64_t t = 0; t + lags < steps; ++t) {
    begun = begun || mask[t];
    used[t] = begun && mask[t + lags] ? 1.0f : 0.0f;
    total += used[t];
  }
  return total;
}

CAUSALMMM_INLINE Floats root(Floats v) {
  for (int i = 0; i < kWidth; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}

CAUSALMMM_INLINE Floats bounded(Floats v, float limit) {
  const Floats low = splat(-limit), high = splat(limit);
  return v < low ? low : (v > high ? high : v);
}

// log(1 + v), v >= 0; an absolute error of the order of rounding 1 + v
CAUSALMMM_INLINE Floats log1p_of(Floats v) {
  const Log2 log = log2_of(v + 1.0f);
  return (log.whole + log.part) * 0.693147181f;
}

[[maybe_unused]] int lanes_left(std::int64_t count, std::int64_t begin) {
  return static_cast<int>(count - begin < kWidth ? count - begin : kWidth);
}

CAUSALMMM_INLINE Floats sigmoid(Floats v) {
  const Floats small = exp2_of_negative(magnitude(v) * -1.44269504f);
  return (v > 0.0f ? splat(1.0f) : small) / (small + 1.0f);
}

// log(1 + v), v >= 0, to the last bits also where v is small
CAUSALMMM_INLINE Floats accurate_log1p(Floats v) {
  const Floats sum = v + 1.0f;
  return log1p_of(v) + (v - (sum - 1.0f)) / sum;
}

CAUSALMMM_INLINE Floats softplus(Floats v) {
  const Floats small = exp2_of_negative(magnitude(v) * -1.44269504f);
  return (v > 0.0f ? v : Floats{}) + accurate_log1p(small);
}

}  // namespace
}  // namespace causalmmm
