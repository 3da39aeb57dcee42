// Evidence under the decoder's responses, and the mean field on it, one store after another;
// engine/evidence/response.py and mean_field.py have the formulas. Receivers are lanes.
#pragma once

#include "evidence/evidence_kernels.h"
#include "evidence/vector_regression.h"

namespace causalmmm {
namespace {

struct ResponseTerms {
  const ResponseTermsProblem& p;
  Regression fit;
  std::int64_t rows, lanes;
  float *used;              // [T - 1]
  float *residual;          // [T, lanes]
  float *ar_weights;        // [P, lanes]
  float *beta;              // [N, D, lanes]
  float *solver;            // [terms, T - 1], on the rows that are used
  float *calendar;          // [terms, stride], coefficients of the responses
  float *full;              // [wide, stride], Gram matrix, both triangles
  float *size;              // [wide], standard deviation of a response
  float *inverse_sd, *share, *group;  // [lanes]
  float *side;              // [wide, lanes]
  float *effect, *own;      // [D, lanes]
  float *diagonal;          // [D]

  ResponseTerms(const ResponseTermsProblem& problem, Pieces& pieces)
      : p(problem), fit(pieces, p.steps - 1, p.nodes, p.components, p.nodes), rows(p.steps - 1),
        lanes(fit.lanes) {
    used = pieces.take(p.steps);
    residual = pieces.take(p.steps * lanes);
    ar_weights = pieces.take(p.ar_lags * lanes);
    beta = pieces.take(fit.wide * lanes);
    solver = pieces.take(p.terms * rows);
    calendar = pieces.take(p.terms * fit.stride);
    full = pieces.take(fit.wide * fit.stride);
    size = pieces.take(fit.wide);
    inverse_sd = pieces.take(lanes);
    share = pieces.take(lanes);
    group = pieces.take(lanes);
    side = pieces.take(fit.wide * lanes);
    effect = pieces.take(p.components * lanes);
    own = pieces.take(p.components * lanes);
    diagonal = pieces.take(p.components);
    if (pieces.memory) arrange_parameters();
  }

  void visit(std::int64_t b) {
    const std::uint8_t* mask = p.context_mask + b * p.steps;
    const float total = rows_with_lags(mask, p.steps, 1, used);
    centre_responses(b);
    scale_errors(b, total);
    fit.multiply();
    write_moments(b);
    standardise(total);
    fit.solve(p.scales.ridge);
    for (std::int64_t i = 0; i < p.nodes; ++i) {
      fit.group(i, group, diagonal);
      write_statistics(b, i);
      write_overlap(b, i);
    }
  }

 private:
  // Parameters with the receiver last, padded by zeros.
  void arrange_parameters() {
    transpose(p.ar_weights, p.nodes, p.ar_lags, p.ar_lags, ar_weights, lanes);
    for (std::int64_t i = 0; i < p.nodes; ++i) {
      transpose(p.beta + i * p.nodes * p.components, p.nodes, p.components, p.components,
                beta + i * p.components * lanes, lanes);
    }
  }

  // Responses in time, less their calendar, on the rows that are used.
  void centre_responses(std::int64_t b) {
    transpose(p.responses + b * fit.wide * rows, fit.wide, rows, rows, fit.design, fit.row);
    for (std::int64_t q = 0; q < p.terms; ++q) {
      const float* from = p.solver + (b * p.terms + q) * p.steps + 1;
      for (std::int64_t t = 0; t < rows; ++t) solver[q * rows + t] = from[t] * used[t];
    }
    matmul({solver, rows, 1}, p.terms, fit.design, fit.row, rows, calendar, fit.stride, fit.stride,
           false);
    for (std::int64_t k = 0; k < p.terms * fit.stride; k += kWidth) {
      store(calendar + k, -load(calendar + k, kWidth), kWidth);
    }
    matmul({p.basis + (b * p.steps + 1) * p.terms, p.terms, 1}, rows, calendar, fit.stride, p.terms, fit.design,
           fit.row, fit.stride, true);
    for (std::int64_t t = 0; t < rows; ++t) {
      if (used[t] == 0.0f) clear(fit.design + t * fit.row, 1, fit.stride, fit.row);
    }
  }

  // Errors after autoregression, in units of their standard deviation, on the rows where a receiver is
  // active; its share of the rows.
  void scale_errors(std::int64_t b, float total) {
    const float* active = p.active + b * p.nodes * p.steps;
    transpose(p.residual + b * p.nodes * p.steps, p.nodes, p.steps, p.steps, residual, lanes);
    for (std::int64_t j = 0; j < lanes; ++j) {
      inverse_sd[j] = j < p.nodes ? __builtin_expf(-p.log_noise[b * p.nodes + j]) : 0.0f;
      share[j] = 0.0f;
    }
    for (std::int64_t t = 0; t < rows; ++t) {
      float* errors = fit.design + t * fit.row + fit.stride;
      if (used[t] == 0.0f) continue;
      const std::int64_t lags = p.ar_lags < t + 1 ? p.ar_lags : t + 1;
      for (std::int64_t j = 0; j < lanes; j += kWidth) {
        Floats error = load(residual + (t + 1) * lanes + j, kWidth);
        for (std::int64_t l = 0; l < lags; ++l) {
          error -= load(ar_weights + l * lanes + j, kWidth) *
                   load(residual + (t - l) * lanes + j, kWidth);
        }
        store(errors + j, bounded(error * load(inverse_sd + j, kWidth), p.scales.clip), kWidth);
      }
      for (std::int64_t j = 0; j < p.nodes; ++j) {
        const float on = active[j * p.steps + t + 1];
        errors[j] *= on;
        share[j] += on;
      }
    }
    for (std::int64_t j = 0; j < p.nodes; ++j) {
      share[j] /= total > 1.0f ? total : 1.0f;
      p.share[b * p.nodes + j] = share[j];
    }
  }

  // Both triangles of the Gram matrix, and the products with the errors.
  void write_moments(std::int64_t b) {
    float* gram = p.gram + b * fit.wide * fit.wide;
    float* cross = p.cross + b * fit.wide * p.nodes;
    for (std::int64_t r = 0; r < fit.wide; ++r) {
      for (std::int64_t c = 0; c <= r; ++c) {
        const float v = fit.gram[r * fit.stride + c];
        full[r * fit.stride + c] = full[c * fit.stride + r] = v;
        gram[r * fit.wide + c] = gram[c * fit.wide + r] = v;
      }
      for (std::int64_t j = 0; j < p.nodes; ++j) cross[r * p.nodes + j] = fit.cross[r * lanes + j];
    }
  }

  // Gram matrix and products of responses of unit variance.
  void standardise(float total) {
    for (std::int64_t k = 0; k < fit.wide; ++k) {
      const float square = fit.gram[k * fit.stride + k] / (total > 2.0f ? total : 2.0f);
      size[k] = __builtin_sqrtf(square < 1e-6f ? 1e-6f : square);
    }
    for (std::int64_t r = 0; r < fit.wide; ++r) {
      const float inverse = 1.0f / size[r];
      for (std::int64_t c = 0; c <= r; ++c) fit.gram[r * fit.stride + c] *= inverse / size[c];
      for (std::int64_t j = 0; j < lanes; ++j) fit.cross[r * lanes + j] *= inverse;
    }
  }

  // Product of the sender's own block of the standardised Gram matrix with v [D, lanes], at lanes j.
  CAUSALMMM_INLINE Floats own_block(std::int64_t first, std::int64_t d, const float* v,
                                    std::int64_t j) const {
    Floats total{};
    for (std::int64_t e = 0; e < p.components; ++e) {
      const float scaled =
          full[(first + d) * fit.stride + first + e] / (size[first + d] * size[first + e]);
      total += scaled * load(v + e * lanes + j, kWidth);
    }
    return total;
  }

  // Matched filter and signed log likelihood ratio of an effect, from its product with a signal.
  CAUSALMMM_INLINE void write_ratio(float* out, std::int64_t b_i, std::int64_t j, Floats hit,
                                    Floats square, Floats root_square, int column) const {
    const Floats ratio = hit - 0.5f * square;
    const Floats matched = hit / root_square;
    const Floats signed_log = with_sign_of(log1p_of(magnitude(ratio)), ratio);
    for (int k = 0; k < lanes_left(p.nodes, j); ++k) {
      float* f = out + (b_i * p.nodes + j + k) * kResponseStatistics;
      f[column] = matched[k];
      f[column + 1] = ratio[k] == 0.0f ? 0.0f : signed_log[k];
    }
  }

  void write_statistics(std::int64_t b, std::int64_t i) {
    const std::int64_t first = i * p.components, b_i = b * p.nodes + i;
    const float root_components = __builtin_sqrtf(static_cast<float>(p.components));
    for (std::int64_t j = 0; j < lanes; j += kWidth) {
      for (std::int64_t d = 0; d < p.components; ++d) {
        const Floats shared = load(beta + (first + d) * lanes + j, kWidth);
        const Floats unit = size[first + d] * load(inverse_sd + j, kWidth);
        store(effect + d * lanes + j, shared * unit, kWidth);
      }
      Floats square{}, direct{}, given_others{};
      for (std::int64_t d = 0; d < p.components; ++d) {
        const Floats x = load(effect + d * lanes + j, kWidth);
        square += x * own_block(first, d, effect, j);
        direct += x * load(fit.cross + (first + d) * lanes + j, kWidth);
        given_others += x * (p.scales.ridge * load(fit.weight + (first + d) * lanes + j, kWidth) +
                             own_block(first, d, fit.weight + first * lanes, j));
      }
      square *= load(share + j, kWidth);
      const Floats root_square = root(at_least(square, 1e-6f));
      write_ratio(p.statistics, b_i, j, direct, square, root_square, 1);
      write_ratio(p.statistics, b_i, j, given_others, square, root_square, 3);
      const Floats wald = root(load(group + j, kWidth)) - root_components;
      const int count = lanes_left(p.nodes, j);
      for (int k = 0; k < count; ++k) {
        p.statistics[(b_i * p.nodes + j + k) * kResponseStatistics] = wald[k];
      }
      store(p.xty + b_i * p.nodes + j, direct, count);
      store(p.xtx_diag + b_i * p.nodes + j, square, count);
    }
  }

  // Products of sender i's effect on every receiver with that of every other sender, in precisions.
  void write_overlap(std::int64_t b, std::int64_t i) {
    const std::int64_t first = i * p.components;
    matmul({full + first * fit.stride, 1, fit.stride}, fit.wide, beta + first * lanes, lanes,
           p.components, side, lanes, lanes, false);
    float* overlap = p.overlap + (b * p.nodes + i) * p.nodes * p.nodes;
    for (std::int64_t j = 0; j < lanes; j += kWidth) {
      const Floats inverse = load(inverse_sd + j, kWidth);
      const Floats precision = inverse * inverse * load(share + j, kWidth);
      for (std::int64_t k = 0; k < p.nodes; ++k) {
        Floats total{};
        for (std::int64_t e = k * p.components; e < (k + 1) * p.components; ++e) {
          total += load(side + e * lanes + j, kWidth) * load(beta + e * lanes + j, kWidth);
        }
        store(overlap + k * p.nodes + j, total * precision, lanes_left(p.nodes, j));
      }
    }
  }
};

std::int64_t terms_scratch(const ResponseTermsProblem& p) {
  Pieces pieces{nullptr};
  ResponseTerms terms(p, pieces);
  return pieces.used;
}

void response_terms(const ResponseTermsProblem& p, float* scratch, std::int64_t begin,
                    std::int64_t end) {
  Pieces pieces{scratch};
  ResponseTerms terms(p, pieces);
  for (std::int64_t b = begin; b < end; ++b) terms.visit(b);
}

// --- mean field --------------------------------------------------------------------------------------

std::int64_t mean_field_scratch(const MeanFieldProblem& p) { return 2 * p.nodes * kWidth; }

// Coordinate ascent for receivers j .. j + kWidth of a store.
void ascend(const MeanFieldProblem& p, float* scratch, std::int64_t b, std::int64_t j) {
  const std::int64_t nodes = p.nodes, base = b * nodes * nodes + j;
  const int count = lanes_left(nodes, j);
  const float precision = 1.0f / (p.spread * p.spread);
  const float* overlap = p.overlap + b * nodes * nodes * nodes + j;
  float *mean = scratch, *cost = scratch + nodes * kWidth;  // [N, kWidth] each
  for (std::int64_t i = 0; i < nodes; ++i) {
    const Floats square = load(overlap + (i * nodes + i) * nodes, count);
    store(mean + i * kWidth, Floats{}, kWidth);
    store(cost + i * kWidth, 0.5f * (log1p_of(square / precision) + precision), kWidth);
  }
  for (std::int64_t sweep = 0; sweep < p.sweeps; ++sweep) {
    for (std::int64_t i = 0; i < nodes; ++i) {
      const float* row = overlap + i * nodes * nodes;
      Floats left = load(p.xty + base + i * nodes, count);
      for (std::int64_t k = 0; k < nodes; ++k) {
        if (k != i) left -= load(row + k * nodes, count) * load(mean + k * kWidth, kWidth);
      }
      const Floats total = load(row + i * nodes, count) + precision;
      const Floats open = (left + precision) / total;
      const Floats factor = 0.5f * open * open * total - load(cost + i * kWidth, kWidth);
      const Floats odds = load(p.log_odds + base + i * nodes, count);
      store(mean + i * kWidth, sigmoid(factor + odds) * open, kWidth);
      store(p.factor + base + i * nodes, factor, count);
    }
  }
  for (std::int64_t i = 0; i < nodes; ++i) {
    store(p.post_mean + base + i * nodes, load(mean + i * kWidth, kWidth), count);
  }
}

void mean_field(const MeanFieldProblem& p, float* scratch, std::int64_t begin, std::int64_t end) {
  for (std::int64_t b = begin; b < end; ++b) {
    for (std::int64_t j = 0; j < p.nodes; j += kWidth) ascend(p, scratch, b, j);
  }
}

}  // namespace
}  // namespace causalmmm
