// One-step likelihood of series under autoregression, row by row: a row is one series of one store.
// Public to the binding; no torch, no Python. Dense float32 arrays in row-major order.
//
//   e(t) = x(t + 1) - m(t) - sum_p w_p x(t - p)            x before the window is zero
//   nll  = sum_t used(t + 1) [ (e(t) / s)^2 / 2 + log s + log(2 pi) / 2 ]
#pragma once

#include <cstdint>

#include "common/cpu_level.h"

namespace causalmmm {

struct LikelihoodProblem {
  std::int64_t stores = 0, nodes = 0, steps = 0, lags = 0;
  const float* residual = nullptr;          // x [B, N, T]
  const float* message = nullptr;           // m [B, N, T - 1]
  const float* ar_weights = nullptr;        // w [B, N, lags], lag 1 (p = 0) first
  const float* log_noise = nullptr;         // log s [B, N]
  const float* active = nullptr;            // [B, N, T], 0 or 1
  const std::uint8_t* target_mask = nullptr;  // [B, T]; used = target_mask and active
};

// Gradients of the arguments of the same names, from those of the likelihoods.
struct LikelihoodGradients {
  const float* nll = nullptr;  // [B, N]
  float *residual = nullptr, *message = nullptr, *ar_weights = nullptr, *log_noise = nullptr;
};

// What is wrong with the sizes; null where nothing is.
const char* check(const LikelihoodProblem& p);

void likelihood_forward_cpu(const LikelihoodProblem& p, float* nll, int threads, CpuLevel level);
void likelihood_backward_cpu(const LikelihoodProblem& p, const LikelihoodGradients& g, int threads,
                             CpuLevel level);

struct LikelihoodKernels {
  // Rows [begin, end) of [B, N]; scratch memory of `likelihood_scratch` floats, all zero.
  void (*forward)(const LikelihoodProblem&, float* nll, float* scratch, std::int64_t begin,
                  std::int64_t end);
  void (*backward)(const LikelihoodProblem&, const LikelihoodGradients&, float* scratch,
                   std::int64_t begin, std::int64_t end);
};

extern const LikelihoodKernels kPortableLikelihood;
extern const LikelihoodKernels kAvx2Likelihood;
extern const LikelihoodKernels kAvx512Likelihood;

}  // namespace causalmmm
