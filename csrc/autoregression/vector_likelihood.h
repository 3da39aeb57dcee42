// One row of the likelihood in vectors along time. Included once per instruction set, after
// CAUSALMMM_WIDTH and CAUSALMMM_LIKELIHOOD (the name of the table to define) are set.
#pragma once

#include "autoregression/autoregression.h"
#include "common/vector.h"

namespace causalmmm {
namespace {

constexpr float kHalfLogTau = 0.918938533f;

// One row's arguments, and its series and errors in memory with zeros around them, so that vectors
// may reach beyond both ends.
struct Row {
  const LikelihoodProblem& p;
  float *past, *errors;  // past[lags + t] = x(t); errors[1 + t] = the gradient of e(t)
  const float *x, *message, *weights, *active;
  const std::uint8_t* target;
  float inverse_sd, log_sd;

  Row(const LikelihoodProblem& problem, float* scratch)
      : p(problem), past(scratch), errors(scratch + p.lags + p.steps + kWidth) {}

  void visit(std::int64_t row) {
    x = p.residual + row * p.steps;
    message = p.message + row * (p.steps - 1);
    weights = p.ar_weights + row * p.lags;
    active = p.active + row * p.steps;
    target = p.target_mask + row / p.nodes * p.steps;
    log_sd = p.log_noise[row];
    inverse_sd = __builtin_expf(-log_sd);
    for (std::int64_t t = 0; t < p.steps; ++t) past[p.lags + t] = x[t];
  }

  // e(t) / s of the n steps from t on.
  CAUSALMMM_INLINE Floats scaled_error(std::int64_t t, int n) const {
    Floats error = load(x + t + 1, n) - load(message + t, n);
    for (std::int64_t k = 0; k < p.lags; ++k) {
      error -= weights[k] * load(past + p.lags + t - k, kWidth);
    }
    return error * inverse_sd;
  }

  // 1 on the rows that count.
  CAUSALMMM_INLINE Floats used(std::int64_t t, int n) const {
    Floats v = load(active + t + 1, n);
    for (int k = 0; k < n; ++k) {
      if (!target[t + 1 + k]) v[k] = 0.0f;
    }
    return v;
  }
};

CAUSALMMM_INLINE int lanes_from(std::int64_t t, std::int64_t end) {
  return static_cast<int>(end - t < kWidth ? end - t : kWidth);
}

void likelihood_forward(const LikelihoodProblem& p, float* nll, float* scratch, std::int64_t begin,
                        std::int64_t end) {
  Row row(p, scratch);
  for (std::int64_t r = begin; r < end; ++r) {
    row.visit(r);
    Floats total{};
    for (std::int64_t t = 0; t < p.steps - 1; t += kWidth) {
      const int n = lanes_from(t, p.steps - 1);
      const Floats error = row.scaled_error(t, n);
      total += row.used(t, n) * (0.5f * error * error + (row.log_sd + kHalfLogTau));
    }
    nll[r] = sum(total);
  }
}

void likelihood_backward(const LikelihoodProblem& p, const LikelihoodGradients& g, float* scratch,
                         std::int64_t begin, std::int64_t end) {
  Row row(p, scratch);
  for (std::int64_t r = begin; r < end; ++r) {
    row.visit(r);
    Floats log_noise{};
    for (std::int64_t t = 0; t < p.steps - 1; t += kWidth) {
      const int n = lanes_from(t, p.steps - 1);
      const Floats error = row.scaled_error(t, n), weight = row.used(t, n) * g.nll[r];
      const Floats slope = weight * error * row.inverse_sd;
      log_noise += weight * (1.0f - error * error);
      store(row.errors + 1 + t, slope, n);
      store(g.message + r * (p.steps - 1) + t, -slope, n);
    }
    g.log_noise[r] = sum(log_noise);
    for (std::int64_t k = 0; k < p.lags; ++k) {
      Floats total{};
      for (std::int64_t t = 0; t < p.steps - 1; t += kWidth) {
        total += load(row.errors + 1 + t, kWidth) * load(row.past + p.lags + t - k, kWidth);
      }
      g.ar_weights[r * p.lags + k] = -sum(total);
    }
    for (std::int64_t t = 0; t < p.steps; t += kWidth) {
      Floats total = load(row.errors + t, kWidth);
      for (std::int64_t k = 0; k < p.lags; ++k) {
        total -= row.weights[k] * load(row.errors + 1 + t + k, kWidth);
      }
      store(g.residual + r * p.steps + t, total, lanes_from(t, p.steps));
    }
  }
}

}  // namespace

const LikelihoodKernels CAUSALMMM_LIKELIHOOD = {likelihood_forward, likelihood_backward};

}  // namespace causalmmm
