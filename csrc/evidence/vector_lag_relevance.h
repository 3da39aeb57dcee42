// Regressions of every receiver on lags of all series under relevance priors, one store after another;
// engine/evidence/ard.py has the formulas.
#pragma once

#include "evidence/vector_relevance.h"

namespace causalmmm {
namespace {

struct LagRelevance {
  const LagRelevanceProblem& p;
  Relevance fit;
  std::int64_t rows, columns, stride;  // T - L, M, and that padded
  double *past, *kept;           // [T - L, stride], all rows; those of a receiver
  double *grams;                 // [N, M, stride], of receivers whose rows differ from all before
  std::int64_t* gram_of;         // [N]
  double *xty, *xtx;             // [N, stride]; [N, M], the diagonal of the Gram matrix
  double *yty;                   // [N]
  double *size, *weight;         // [L], sums over pairs

  LagRelevance(const LagRelevanceProblem& problem, Pieces& pieces)
      : p(problem), fit(pieces, p.nodes * p.lags, p.lags), rows(p.steps - p.lags),
        columns(fit.columns), stride(fit.stride) {
    past = pieces.take_doubles(rows * stride);
    kept = pieces.take_doubles(rows * stride);
    grams = pieces.take_doubles(p.nodes * columns * stride);
    gram_of = reinterpret_cast<std::int64_t*>(pieces.take_doubles(p.nodes));
    xty = pieces.take_doubles(p.nodes * stride);
    xtx = pieces.take_doubles(p.nodes * columns);
    yty = pieces.take_doubles(p.nodes);
    size = pieces.take_doubles(p.lags);
    weight = pieces.take_doubles(p.lags);
  }

  void visit(std::int64_t b) {
    multiply(b);
    double* variances = p.variance + b * p.nodes * columns;
    double* noises = p.noise + b * p.nodes;
    begin(b, variances, noises);
    for (std::int64_t round = 0; round < p.rules.rounds; ++round) {
      for (std::int64_t l = 0; l < p.lags; ++l) size[l] = weight[l] = 0.0;
      for (std::int64_t j = 0; j < p.nodes; ++j) {
        double* variance = variances + j * columns;
        infer(j, variance, noises[j]);
        noises[j] = fit.noise_after(xty + j * stride, yty[j], noises[j], p.freedom[b * p.nodes + j],
                                    p.rules);
        update(j, variance, round % 2 == 0);
      }
      if (round % 2) share_profile(variances);
    }
    for (std::int64_t j = 0; j < p.nodes; ++j) {
      infer(j, variances + j * columns, noises[j]);
      for (std::int64_t i = 0; i < p.nodes; ++i) {
        const std::int64_t at = (b * p.nodes + j) * p.nodes + i;
        fit.test(i * p.lags, p.lags, 1e-20, p.factor[at], p.z_score[at]);
      }
    }
  }

 private:
  const double* used(std::int64_t b, std::int64_t j) const {
    return p.used + (b * p.nodes + j) * rows;
  }

  // The Gram matrix of every receiver's rows, once where several have the same; products with outcomes.
  void multiply(std::int64_t b) {
    const double* series = p.series + b * p.nodes * p.steps;
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t k = 0; k < columns; ++k) {
        past[t * stride + k] = series[k / p.lags * p.steps + t + p.lags - 1 - k % p.lags];
      }
    }
    const double* outcome = p.outcome + b * p.nodes * rows;
    matmul({outcome, rows, 1}, p.nodes, past, stride, rows, xty, stride, stride, false);
    std::int64_t known = 0;
    for (std::int64_t j = 0; j < p.nodes; ++j) {
      yty[j] = 0.0;
      for (std::int64_t t = 0; t < rows; ++t) yty[j] += outcome[j * rows + t] * outcome[j * rows + t];
      const std::int64_t alike = first_alike(b, j);
      gram_of[j] = alike < j ? gram_of[alike] : known++;
      double* gram = grams + gram_of[j] * columns * stride;
      if (alike == j) lower_products(kept, keep(used(b, j)), columns, stride, gram);
      for (std::int64_t k = 0; k < columns; ++k) {
        xtx[j * columns + k] = not_below(gram[k * stride + k], 1e-6);
      }
    }
  }

  // The first receiver with the same rows.
  std::int64_t first_alike(std::int64_t b, std::int64_t j) const {
    std::int64_t other = 0;
    while (__builtin_memcmp(used(b, other), used(b, j), sizeof(double) * rows)) ++other;
    return other;
  }

  // Copies the rows of a receiver one after another; their number.
  std::int64_t keep(const double* mask) {
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < rows; ++t) {
      if (mask[t] == 0.0) continue;
      __builtin_memcpy(kept + count++ * stride, past + t * stride, sizeof(double) * stride);
    }
    return count;
  }

  void begin(std::int64_t b, double* variances, double* noises) const {
    for (std::int64_t j = 0; j < p.nodes; ++j) {
      noises[j] = 0.5 * yty[j] / p.freedom[b * p.nodes + j] + p.rules.least_noise;
      for (std::int64_t k = 0; k < columns; ++k) {
        variances[j * columns + k] = 1.0 / columns + (k / p.lags == j ? p.ar_variance : 0.0);
      }
    }
  }

  // Of receiver j, with variances bounded so that rounding cannot separate collinear series.
  void infer(std::int64_t j, double* variance, double noise) const {
    const double* information = xtx + j * columns;
    for (std::int64_t k = 0; k < columns; ++k) {
      variance[k] = not_above(variance[k], p.most_precision_ratio * noise / information[k]);
    }
    fit.infer(grams + gram_of[j] * columns * stride, xty + j * stride, variance, noise);
  }

  double bounded_variance(double v) const {
    return not_above(not_below(v, p.rules.least_variance), p.rules.most_variance);
  }

  // Autoregressive coefficients each; those of other senders by `pairs`, or into the profile's sums.
  void update(std::int64_t j, double* variance, bool pairs) {
    for (std::int64_t i = 0; i < p.nodes; ++i) {
      double squares = 0.0, gammas = 0.0;
      for (std::int64_t l = 0; l < p.lags; ++l) {
        const std::int64_t k = i * p.lags + l;
        const double square = fit.coef[k] * fit.coef[k];
        const double gamma = not_below(fit.gamma[k], p.rules.least_gamma);
        if (i == j) {
          variance[k] = bounded_variance(variance[k] * (square / gamma));
          continue;
        }
        (pairs ? squares : size[l]) += square;
        (pairs ? gammas : weight[l]) += gamma;
      }
      if (!pairs || i == j) continue;
      for (std::int64_t k = i * p.lags; k < (i + 1) * p.lags; ++k) {
        variance[k] = bounded_variance(variance[k] * (squares / gammas));
      }
    }
  }

  void share_profile(double* variances) const {
    for (std::int64_t pair = 0; pair < p.nodes * p.nodes; ++pair) {
      if (pair % p.nodes == pair / p.nodes) continue;
      for (std::int64_t l = 0; l < p.lags; ++l) {
        double& variance = variances[pair * p.lags + l];
        variance = bounded_variance(variance * (size[l] / weight[l]));
      }
    }
  }
};

std::int64_t lag_relevance_scratch(const LagRelevanceProblem& p) {
  Pieces pieces{nullptr};
  LagRelevance regressions(p, pieces);
  return pieces.used;
}

void lag_relevance(const LagRelevanceProblem& p, float* scratch, std::int64_t begin,
                   std::int64_t end) {
  Pieces pieces{scratch};
  LagRelevance regressions(p, pieces);
  for (std::int64_t b = begin; b < end; ++b) regressions.visit(b);
}

}  // namespace
}  // namespace causalmmm
