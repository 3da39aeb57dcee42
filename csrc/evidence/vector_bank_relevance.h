// Regressions of a receiver on a bank of responses of all series and its own lags under relevance
// priors, one after another; engine/prior/responses.py has the formulas.
#pragma once

#include "evidence/vector_relevance.h"

namespace causalmmm {
namespace {

struct BankRelevance {
  const BankRelevanceProblem& p;
  Relevance fit;
  std::int64_t rows, width, columns, stride;  // T - P, N D, M, and that padded
  double *design, *outcome;         // [T - P, stride] and [T - P], the rows that are used
  double *gram, *xty;               // [M, stride], [stride], of columns and outcome of unit mean square
  double *size, *variance;          // [M]

  BankRelevance(const BankRelevanceProblem& problem, Pieces& pieces)
      : p(problem), fit(pieces, p.nodes * p.components + p.ar_lags, p.components),
        rows(p.steps - p.ar_lags), width(p.nodes * p.components), columns(fit.columns),
        stride(fit.stride) {
    design = pieces.take_doubles(rows * stride);
    outcome = pieces.take_doubles(rows);
    gram = pieces.take_doubles(columns * stride);
    xty = pieces.take_doubles(stride);
    size = pieces.take_doubles(columns);
    variance = pieces.take_doubles(columns);
  }

  // Regression r of store b.
  void visit(std::int64_t b, std::int64_t r) {
    const std::int64_t j = p.receivers[r], kept = keep(b, r);
    const double count = not_below(static_cast<double>(kept), 2.0);
    lower_products(design, kept, columns, stride, gram);
    matmul({outcome, kept, 1}, 1, design, stride, kept, xty, stride, stride, false);
    const double level = standardise(kept, count);
    update(j, count);
    double* weight = p.weight + (b * p.regressions + r) * columns;
    for (std::int64_t k = 0; k < columns; ++k) weight[k] = level / size[k] * (fit.std[k] * fit.coef[k]);
    for (std::int64_t i = 0; i < p.nodes; ++i) {
      const std::int64_t at = (b * p.regressions + r) * p.nodes + i;
      p.share[at] = share(i, count);
      fit.test(i * p.components, p.components, 1e-12, p.factor[at], p.z_score[at]);
    }
  }

 private:
  // Rows of the design and outcomes that are used; their number.
  std::int64_t keep(std::int64_t b, std::int64_t r) {
    const std::int64_t j = p.receivers[r];
    const double *used = p.used + (b * p.nodes + j) * rows;
    const double *received = p.received + (b * p.nodes + j) * p.steps;
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < rows; ++t) {
      if (used[t] == 0.0) continue;
      double* row = design + count * stride;
      const double* before = p.bank + (b * p.steps + t + p.ar_lags - 1) * width;
      for (std::int64_t i = 0; i < p.nodes; ++i) {
        const double* from = before + (p.now[r * p.nodes + i] ? width : 0);
        for (std::int64_t d = i * p.components; d < (i + 1) * p.components; ++d) row[d] = from[d];
      }
      for (std::int64_t l = 0; l < p.ar_lags; ++l) row[width + l] = received[t + p.ar_lags - 1 - l];
      outcome[count++] = received[t + p.ar_lags];
    }
    return count;
  }

  // Columns and outcome of unit mean square; what coefficients are multiplied with is that of the
  // outcome, which it returns, over `size`.
  double standardise(std::int64_t kept, double count) {
    double square = 0.0;
    for (std::int64_t t = 0; t < kept; ++t) square += outcome[t] * outcome[t];
    const double level = not_below(square_root(square / count), 1e-6);
    for (std::int64_t k = 0; k < columns; ++k) {
      size[k] = not_below(square_root(gram[k * stride + k] / count), 1e-4);
    }
    for (std::int64_t k = 0; k < columns; ++k) {
      for (std::int64_t c = 0; c <= k; ++c) gram[k * stride + c] /= size[k] * size[c];
      xty[k] /= size[k] * level;
    }
    return level;
  }

  // Coefficients of a sender share a variance, own lags have one each.
  void update(std::int64_t j, double count) {
    const double freedom = (1.0 - p.calendar_share) * count;
    double noise = 0.5 * count / freedom;
    for (std::int64_t k = 0; k < columns; ++k) {
      variance[k] = (itself(k, j) ? 0.0 : 1.0 / width) + p.rules.least_variance;
      if (k >= width) variance[k] = 1.0 / width + p.rules.least_variance;
    }
    for (std::int64_t round = 0; round < p.rules.rounds; ++round) {
      fit.infer(gram, xty, variance, noise);
      noise = fit.noise_after(xty, count, noise, freedom, p.rules);
      for (std::int64_t k = 0; k < columns;) {
        const std::int64_t end = k < width ? k + p.components : k + 1;
        update_group(k, end, itself(k, j));
        k = end;
      }
    }
    fit.infer(gram, xty, variance, noise);
  }

  // Whether a column is a response of the receiver, which is not its own sender.
  bool itself(std::int64_t k, std::int64_t j) const { return k / p.components == j && k < width; }

  void update_group(std::int64_t begin, std::int64_t end, bool excluded) {
    double squares = 0.0, gammas = 0.0;
    for (std::int64_t k = begin; k < end; ++k) {
      squares += fit.coef[k] * fit.coef[k];
      gammas += not_below(fit.gamma[k], p.rules.least_gamma);
    }
    for (std::int64_t k = begin; k < end; ++k) {
      const double next = not_below(variance[k] * (squares / gammas), p.rules.least_variance);
      variance[k] = excluded ? p.rules.least_variance : not_above(next, p.rules.most_variance);
    }
  }

  // Root of the share of variance that sender i explains.
  double share(std::int64_t i, double count) const {
    const std::int64_t first = i * p.components;
    double total = 0.0;
    for (std::int64_t k = first; k < first + p.components; ++k) {
      for (std::int64_t l = first; l < first + p.components; ++l) {
        const double product = k > l ? gram[k * stride + l] : gram[l * stride + k];
        total += fit.std[k] * fit.coef[k] * product * fit.std[l] * fit.coef[l];
      }
    }
    return square_root(not_above(not_below(total / count, 0.0), 2.0));
  }
};

std::int64_t bank_relevance_scratch(const BankRelevanceProblem& p) {
  Pieces pieces{nullptr};
  BankRelevance regressions(p, pieces);
  return pieces.used;
}

void bank_relevance(const BankRelevanceProblem& p, float* scratch, std::int64_t begin,
                    std::int64_t end) {
  Pieces pieces{scratch};
  BankRelevance regressions(p, pieces);
  for (std::int64_t k = begin; k < end; ++k) regressions.visit(k / p.regressions, k % p.regressions);
}

}  // namespace
}  // namespace causalmmm
