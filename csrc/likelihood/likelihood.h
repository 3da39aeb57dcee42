// Likelihood of one-step errors of a store's series: effects of responses less their calendar, and
// autoregression. Public to the binding; no torch, no Python. Dense float32 arrays in row-major order.
//
//   W_idj = gate_ij exp(log_effect_ij) beta_ijd,   s_j(t) = sum_id W_idj r_id(t)
//   m     = s less its calendar, which acts one step later: row t has the calendar of row t + 1
//   e(t)  = x(t + 1) - m(t) - sum_p w_p x(t - p)           x before the window is zero
//   nll   = sum_t used(t + 1) [ (e(t) / sd)^2 / 2 + log sd + log(2 pi) / 2 ]
#pragma once

#include <cstdint>

#include "common/cpu_level.h"

namespace causalmmm {

struct LikelihoodProblem {
  std::int64_t stores = 0, nodes = 0, components = 0, steps = 0, terms = 0, lags = 0;
  const float* residual = nullptr;    // x [B, N, T]
  const float* responses = nullptr;   // r [B, N, D, T - 1]
  const float* gate = nullptr;        // [B, N, N], sender first
  const float* log_effect = nullptr;  // [B, N, N]
  const float* beta = nullptr;        // [N, N, D]
  const float* solver = nullptr;      // [B, Q, T], coefficients of a series' calendar
  const float* basis = nullptr;       // [B, T, Q], the calendar
  const float* ar_weights = nullptr;  // w [B, N, lags], lag 1 (p = 0) first
  const float* log_noise = nullptr;   // log sd [B, N]
  const float* active = nullptr;      // [B, N, T], 0 or 1
  const std::uint8_t* context_mask = nullptr;  // [B, T], the rows that the solver fits
  const std::uint8_t* target_mask = nullptr;   // [B, T]; used = target_mask and active
};

// Gradients of the arguments of the same names, from those of the likelihoods; that of beta in sums
// over runs of `kLikelihoodRun` stores.
struct LikelihoodGradients {
  const float* nll = nullptr;  // [B, N]
  float *residual = nullptr, *responses = nullptr, *gate = nullptr, *log_effect = nullptr;
  float *beta = nullptr;  // [runs, N, N, D]
  float *solver = nullptr, *ar_weights = nullptr, *log_noise = nullptr;
};

constexpr std::int64_t kLikelihoodRun = 8;

// What is wrong with the sizes; null where nothing is.
const char* check(const LikelihoodProblem& p);

void likelihood_forward_cpu(const LikelihoodProblem& p, float* nll, int threads, CpuLevel level);
void likelihood_backward_cpu(const LikelihoodProblem& p, const LikelihoodGradients& g, int threads,
                             CpuLevel level);

struct LikelihoodKernels {
  std::int64_t (*scratch)(const LikelihoodProblem&);
  // Stores [begin, end), one run; scratch memory is zero and starts on a cache line.
  void (*forward)(const LikelihoodProblem&, float* nll, float* scratch, std::int64_t begin,
                  std::int64_t end);
  void (*backward)(const LikelihoodProblem&, const LikelihoodGradients&, float* scratch,
                   std::int64_t begin, std::int64_t end);
  static const LikelihoodKernels kPortable, kAvx2, kAvx512;
};

}  // namespace causalmmm
