// The likelihood of a store in vectors along time. Included once per instruction set, after
// CAUSALMMM_WIDTH and CAUSALMMM_LEVEL (the table to define) are set.
#pragma once

#include "common/matmul.h"
#include "common/series.h"
#include "likelihood/likelihood.h"

namespace causalmmm {
namespace {

constexpr float kHalfLogTau = 0.918938533f;

struct StoreLikelihood {
  const LikelihoodProblem& p;
  std::int64_t nodes, rows, wide, lanes, columns, receivers;  // the last three padded: rows, terms, N
  float *strength;   // [N, N], gate times effect
  float *weights;    // [wide, N], W
  float *series;     // [wide, lanes], responses; their gradients
  float *sum;        // [N, lanes], s
  float *message;    // [N, lanes], m
  float *used;       // [T], 1 on the rows that the calendar fits
  float *fitted;     // [N, columns], minus the coefficients of s
  float *solver;     // [rows, columns]
  float *calendar;   // [terms, lanes], basis in time
  float *slopes;     // [N, lanes], gradients of m; then of s
  float *past, *errors;  // a row's series and gradients of its errors, with zeros around them
  float *turned;     // [rows, receivers], gradients of s
  float *of_weights; // [wide, receivers]

  StoreLikelihood(const LikelihoodProblem& problem, Pieces& pieces)
      : p(problem), nodes(p.nodes), rows(p.steps - 1), wide(p.nodes * p.components),
        lanes(multiple(p.steps - 1, kWidth)), columns(multiple(p.terms, kWidth)),
        receivers(multiple(p.nodes, kWidth)) {
    strength = pieces.take(nodes * nodes);
    weights = pieces.take(wide * nodes);
    series = pieces.take(wide * lanes);
    sum = pieces.take(nodes * lanes);
    message = pieces.take(nodes * lanes);
    used = pieces.take(p.steps);
    fitted = pieces.take(nodes * columns);
    solver = pieces.take(rows * columns);
    calendar = pieces.take(p.terms * lanes);
    slopes = pieces.take(nodes * lanes);
    past = pieces.take(p.steps + p.lags + kWidth);
    errors = pieces.take(p.steps + p.lags + 2 * kWidth + 1);
    turned = pieces.take(rows * receivers);
    of_weights = pieces.take(wide * receivers);
  }

  void forward(float* nll, std::int64_t b) {
    explain(b);
    for (std::int64_t j = 0; j < nodes; ++j) {
      const Row row(*this, b, j);
      Floats total{};
      for (std::int64_t t = 0; t < rows; t += kWidth) {
        const int n = lanes_left(rows, t);
        const Floats error = row.scaled_error(t, n);
        total += row.counted(t, n) * (0.5f * error * error + (row.log_sd + kHalfLogTau));
      }
      nll[b * nodes + j] = ::causalmmm::sum(total);
    }
  }

  // Writes the gradients of a store, and adds that of beta [N, N, D] to its run's.
  void backward(const LikelihoodGradients& g, std::int64_t b, float* beta) {
    explain(b);
    for (std::int64_t j = 0; j < nodes; ++j) differentiate_row(g, b, j);
    differentiate_calendar(g, b);
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t j = 0; j < nodes; ++j) turned[t * receivers + j] = slopes[j * lanes + t];
    }
    matmul({p.responses + b * wide * rows, rows, 1}, wide, turned, receivers, rows, of_weights,
           receivers, receivers, false);
    matmul({weights, nodes, 1}, wide, slopes, lanes, nodes, series, lanes, lanes, false);
    for (std::int64_t r = 0; r < wide; ++r) {
      float* out = g.responses + (b * wide + r) * rows;
      for (std::int64_t t = 0; t < rows; t += kWidth) {
        store(out + t, load(series + r * lanes + t, kWidth), lanes_left(rows, t));
      }
    }
    for (std::int64_t i = 0; i < nodes; ++i) {
      for (std::int64_t j = 0; j < nodes; ++j) {
        const std::int64_t pair = i * nodes + j, at = b * nodes * nodes + pair;
        float total = 0.0f;
        for (std::int64_t d = 0; d < p.components; ++d) {
          const float grad = of_weights[(i * p.components + d) * receivers + j];
          total += grad * p.beta[pair * p.components + d];
          beta[pair * p.components + d] += grad * strength[pair];
        }
        g.gate[at] = total * __builtin_expf(p.log_effect[at]);
        g.log_effect[at] = total * strength[pair];
      }
    }
  }

 private:
  // One row's arguments; its series lies in `past`.
  struct Row {
    const StoreLikelihood& of;
    const float *x, *message, *weights, *active;
    const std::uint8_t* target;
    float inverse_sd, log_sd;

    Row(const StoreLikelihood& store, std::int64_t b, std::int64_t j) : of(store) {
      const LikelihoodProblem& p = of.p;
      const std::int64_t row = b * p.nodes + j;
      x = p.residual + row * p.steps;
      message = of.message + j * of.lanes;
      weights = p.ar_weights + row * p.lags;
      active = p.active + row * p.steps;
      target = p.target_mask + b * p.steps;
      log_sd = p.log_noise[row];
      inverse_sd = __builtin_expf(-log_sd);
      for (std::int64_t t = 0; t < p.steps; ++t) of.past[p.lags + t] = x[t];
    }

    // e(t) / sd of the n steps from t on.
    CAUSALMMM_INLINE Floats scaled_error(std::int64_t t, int n) const {
      Floats error = load(x + t + 1, n) - load(message + t, kWidth);
      for (std::int64_t k = 0; k < of.p.lags; ++k) {
        error -= weights[k] * load(of.past + of.p.lags + t - k, kWidth);
      }
      return error * inverse_sd;
    }

    // 1 on the rows that count.
    CAUSALMMM_INLINE Floats counted(std::int64_t t, int n) const {
      Floats v = load(active + t + 1, n);
      for (int k = 0; k < n; ++k) {
        if (!target[t + 1 + k]) v[k] = 0.0f;
      }
      return v;
    }
  };

  // The message of every receiver, and what it is made of.
  void explain(std::int64_t b) {
    for (std::int64_t i = 0; i < nodes; ++i) {
      for (std::int64_t j = 0; j < nodes; ++j) {
        const std::int64_t pair = i * nodes + j, at = b * nodes * nodes + pair;
        strength[pair] = p.gate[at] * __builtin_expf(p.log_effect[at]);
        for (std::int64_t d = 0; d < p.components; ++d) {
          weights[(i * p.components + d) * nodes + j] =
              strength[pair] * p.beta[pair * p.components + d];
        }
      }
    }
    for (std::int64_t r = 0; r < wide; ++r) {
      const float* from = p.responses + (b * wide + r) * rows;
      for (std::int64_t t = 0; t < rows; t += kWidth) {
        store(series + r * lanes + t, load(from + t, lanes_left(rows, t)), kWidth);
      }
    }
    matmul({weights, 1, nodes}, nodes, series, lanes, wide, sum, lanes, lanes, false);
    rows_with_lags(p.context_mask + b * p.steps, p.steps, 1, used);
    for (std::int64_t q = 0; q < p.terms; ++q) {
      const float* from = p.solver + (b * p.terms + q) * p.steps + 1;
      for (std::int64_t t = 0; t < rows; ++t) solver[t * columns + q] = from[t] * used[t];
    }
    for (std::int64_t t = 0; t < rows; ++t) {
      const float* from = p.basis + (b * p.steps + t + 1) * p.terms;
      for (std::int64_t q = 0; q < p.terms; ++q) calendar[q * lanes + t] = from[q];
    }
    matmul({sum, lanes, 1}, nodes, solver, columns, rows, fitted, columns, columns, false);
    for (std::int64_t k = 0; k < nodes * columns; k += kWidth) {
      store(fitted + k, -load(fitted + k, kWidth), kWidth);
    }
    for (std::int64_t k = 0; k < nodes * lanes; k += kWidth) {
      store(message + k, load(sum + k, kWidth), kWidth);
    }
    matmul({fitted, columns, 1}, nodes, calendar, lanes, p.terms, message, lanes, lanes, true);
  }

  // Gradients of a receiver's series, weights and noise; that of its message goes into `slopes`.
  void differentiate_row(const LikelihoodGradients& g, std::int64_t b, std::int64_t j) {
    const Row row(*this, b, j);
    const std::int64_t r = b * nodes + j;
    Floats log_noise{};
    for (std::int64_t t = 0; t < rows; t += kWidth) {
      const int n = lanes_left(rows, t);
      const Floats error = row.scaled_error(t, n), weight = row.counted(t, n) * g.nll[r];
      const Floats slope = weight * error * row.inverse_sd;
      log_noise += weight * (1.0f - error * error);
      store(errors + 1 + t, slope, n);
      store(slopes + j * lanes + t, -slope, n);
    }
    g.log_noise[r] = ::causalmmm::sum(log_noise);
    for (std::int64_t k = 0; k < p.lags; ++k) {
      Floats total{};
      for (std::int64_t t = 0; t < rows; t += kWidth) {
        total += load(errors + 1 + t, kWidth) * load(past + p.lags + t - k, kWidth);
      }
      g.ar_weights[r * p.lags + k] = -::causalmmm::sum(total);
    }
    for (std::int64_t t = 0; t < p.steps; t += kWidth) {
      Floats total = load(errors + t, kWidth);
      for (std::int64_t k = 0; k < p.lags; ++k) {
        total -= row.weights[k] * load(errors + 1 + t + k, kWidth);
      }
      store(g.residual + r * p.steps + t, total, lanes_left(p.steps, t));
    }
  }

  // The gradient of the solver; `slopes` become those of s.
  void differentiate_calendar(const LikelihoodGradients& g, std::int64_t b) {
    float* by_term = fitted;  // [N, columns], minus the gradients of the coefficients
    for (std::int64_t j = 0; j < nodes; ++j) {
      for (std::int64_t q = 0; q < p.terms; ++q) {
        Floats total{};
        for (std::int64_t t = 0; t < lanes; t += kWidth) {
          total += load(slopes + j * lanes + t, kWidth) * load(calendar + q * lanes + t, kWidth);
        }
        by_term[j * columns + q] = -::causalmmm::sum(total);
      }
    }
    float* in_time = calendar;  // [terms, lanes], the gradient of the solver, then the solver
    matmul({by_term, 1, columns}, p.terms, sum, lanes, nodes, in_time, lanes, lanes, false);
    for (std::int64_t q = 0; q < p.terms; ++q) {
      float* out = g.solver + (b * p.terms + q) * p.steps;
      out[0] = 0.0f;
      for (std::int64_t t = 0; t < rows; ++t) {
        out[t + 1] = in_time[q * lanes + t] * used[t];
        in_time[q * lanes + t] = solver[t * columns + q];
      }
    }
    matmul({by_term, columns, 1}, nodes, in_time, lanes, p.terms, slopes, lanes, lanes, true);
  }
};

std::int64_t likelihood_scratch(const LikelihoodProblem& p) {
  Pieces pieces{nullptr};
  StoreLikelihood likelihood(p, pieces);
  return pieces.used;
}

void likelihood_forward(const LikelihoodProblem& p, float* nll, float* scratch, std::int64_t begin,
                        std::int64_t end) {
  Pieces pieces{scratch};
  StoreLikelihood likelihood(p, pieces);
  for (std::int64_t b = begin; b < end; ++b) likelihood.forward(nll, b);
}

void likelihood_backward(const LikelihoodProblem& p, const LikelihoodGradients& g, float* scratch,
                         std::int64_t begin, std::int64_t end) {
  Pieces pieces{scratch};
  StoreLikelihood likelihood(p, pieces);
  const std::int64_t size = p.nodes * p.nodes * p.components;
  float* beta = g.beta + begin / kLikelihoodRun * size;
  for (std::int64_t k = 0; k < size; ++k) beta[k] = 0.0f;
  for (std::int64_t b = begin; b < end; ++b) likelihood.backward(g, b, beta);
}

}  // namespace

const LikelihoodKernels LikelihoodKernels::CAUSALMMM_LEVEL = {likelihood_scratch, likelihood_forward,
                                                              likelihood_backward};

}  // namespace causalmmm
