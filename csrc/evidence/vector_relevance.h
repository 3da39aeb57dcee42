// One Bayesian regression whose prior variances are updated by evidence (MacKay, 1992), in float64.
// Included once per instruction set, after CAUSALMMM_WIDTH is set. Nothing here knows which
// coefficients share a variance.
#pragma once

#include "common/series.h"
#include "common/whitening.h"
#include "evidence/evidence_kernels.h"

namespace causalmmm {
namespace {

CAUSALMMM_INLINE double not_below(double v, double low) { return low > v ? low : v; }
CAUSALMMM_INLINE double not_above(double v, double high) { return high < v ? high : v; }

// What a store's regressions share: sizes, and the memory of the one at work.
struct Relevance {
  std::int64_t columns, stride;  // M, and that padded
  std::int64_t block_stride;     // columns of a sender, padded
  double *work, *white;          // [M, stride] and block_stride more
  double *std, *scale, *hits;    // [stride]: prior deviation, that over the noise's, xty in its units
  double *coef, *gamma;          // [stride]: mean in prior deviations, what the data determine of it
  double *block, *block_white;   // [block_stride, block_stride]
  double* whitening;

  Relevance(Pieces& pieces, std::int64_t column_count, std::int64_t sender_columns)
      : columns(column_count), stride(multiple(column_count, kBlock)),
        block_stride(multiple(sender_columns, kBlock)) {
    work = pieces.take_doubles(columns * stride);
    white = pieces.take_doubles(columns * stride + block_stride);
    std = pieces.take_doubles(stride);
    scale = pieces.take_doubles(stride);
    hits = pieces.take_doubles(stride);
    coef = pieces.take_doubles(stride);
    gamma = pieces.take_doubles(stride);
    block = pieces.take_doubles(block_stride * block_stride);
    block_white = pieces.take_doubles(block_stride * block_stride);
    whitening = pieces.take_doubles(whitening_scratch(stride));
  }

  // coef, gamma and W = `white` with W'W the covariance of the coefficients in units of `variance`.
  // gram [M, stride], its lower triangle; xty and variance [M].
  void infer(const double* gram, const double* xty, const double* variance, double noise) const {
    for (std::int64_t k = 0; k < columns; ++k) {
      std[k] = square_root(variance[k]);
      scale[k] = std[k] / square_root(noise);
      hits[k] = std[k] * xty[k] / noise;
    }
    for (std::int64_t r = 0; r < columns; ++r) {
      const double row = scale[r];
      for (std::int64_t c = 0; c <= r; c += kLanes<double>) {
        const std::int64_t at = r * stride + c;
        store_all(work + at, row * load_all(gram + at) * load_all(scale + c));
      }
      work[r * stride + r] += 1.0;
    }
    whiten(work, white, columns, stride, whitening);
    for (std::int64_t k = 0; k < stride; ++k) coef[k] = gamma[k] = 0.0;
    for (std::int64_t r = 0; r < columns; ++r) accumulate(white + r * stride, r + 1);
    for (std::int64_t k = 0; k < columns; ++k) gamma[k] = 1.0 - gamma[k];
  }

  // Of one round of updates: the noise, from what the coefficients explain of yty.
  double noise_after(const double* xty, double yty, double noise, double freedom,
                     const RelevanceRules& rules) const {
    double explained = 0.0, squares = 0.0, determined = 0.0;
    for (std::int64_t k = 0; k < columns; ++k) {
      explained += std[k] * coef[k] * xty[k];
      squares += coef[k] * coef[k];
      determined += gamma[k];
    }
    const double left = not_below(freedom - determined, 0.2 * freedom);
    return not_below((yty - explained - noise * squares) / left, rules.least_noise);
  }

  // Savage-Dickey ratio, in nats, of coefficients [first, first + count) and their sum's mean over
  // its deviation; the sum's variance is at least `least`. Overwrites `block`.
  void test(std::int64_t first, std::int64_t count, double least, double& factor,
            double& z_score) const {
    const double* side = white + first * stride + first;
    matmul({side, 1, stride}, count, side, stride, columns - first, block, block_stride, block_stride,
           false);
    double total = 0.0, variance = 0.0;
    for (std::int64_t k = 0; k < count; ++k) {
      total += std[first + k] * coef[first + k];
      for (std::int64_t l = 0; l < count; ++l) {
        variance += std[first + k] * block[k * block_stride + l] * std[first + l];
      }
    }
    z_score = total / square_root(not_below(variance, least));
    whiten(block, block_white, count, block_stride, whitening);
    factor = 0.0;
    for (std::int64_t k = 0; k < count; ++k) {
      double left = 0.0;
      for (std::int64_t l = 0; l <= k; ++l) left += block_white[k * block_stride + l] * coef[first + l];
      factor += 0.5 * left * left - __builtin_log(block_white[k * block_stride + k]);
    }
  }

 private:
  // A row of W: its product with the hits, and what it adds to means and variances.
  CAUSALMMM_INLINE void accumulate(const double* row, std::int64_t length) const {
    Vector<double> part[2]{};
    for (std::int64_t c = 0; c < length; c += 2 * kLanes<double>) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const std::int64_t at = c + v * kLanes<double>;
        part[v] += load_all(row + at) * load_all(hits + at);
      }
    }
    part[0] += part[1];
    double half = 0.0;
    for (int i = 0; i < kLanes<double>; ++i) half += part[0][i];
    for (std::int64_t c = 0; c < length; c += kLanes<double>) {
      const Vector<double> w = load_all(row + c);
      store_all(coef + c, load_all(coef + c) + half * w);
      store_all(gamma + c, load_all(gamma + c) + w * w);
    }
  }
};

// Lower triangle [columns, stride] of the products of the columns of `rows` rows [rows, stride].
[[maybe_unused]] void lower_products(const double* design, std::int64_t rows, std::int64_t columns,
                                     std::int64_t stride, double* gram) {
  for (std::int64_t c = 0; c < columns; c += kBlock) {
    matmul({design + c, 1, stride}, columns - c, design + c, stride, rows, gram + c * stride + c,
           stride, kBlock, false);
  }
}

}  // namespace
}  // namespace causalmmm
