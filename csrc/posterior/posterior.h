// Prior and posterior of the edges and effects of a store: the mixture of prototype graphs, and a
// sample of effects with its divergence. Public to the binding; no torch, no Python. Dense float32
// arrays in row-major order; pairs are [N, N], sender first. Formulas: engine/nn/encoder.py, model.py.
#pragma once

#include <cstdint>

#include "common/cpu_level.h"

namespace causalmmm {

// o = prototypes, bounded,  e = exp(factor),  l = log softmax(mixture)
//   a_p    = l_p + sum over i != j of [softplus(o_p + factor) - softplus(o_p)],  r = softmax(a)
//   prior  = (sum_p r_p log(1 - sigmoid(o_p)), sum_p r_p log sigmoid(o_p)), or `fixed_prior`
//   kl     = sum_p r_p (log r_p - l_p)
struct PriorProblem {
  std::int64_t stores = 0, nodes = 0, prototypes = 0;
  float bound = 0.0f;
  const float* odds = nullptr;         // [P, N, N], log odds
  const float* mixture = nullptr;      // [P]
  const float* factor = nullptr;       // [B, N, N], log Bayes factors
  const float* fixed_prior = nullptr;  // [N, N, 2], takes effect where one of the two is infinite
};

struct PriorOutputs {
  float* log_prior = nullptr;  // [B, N, N, 2]
  float* kl = nullptr;         // [B]
  float* log_share = nullptr;  // log r [B, P]
};

// Gradients of log_prior and kl (null: zero); of the parameters, in sums over runs of stores.
struct PriorGradients {
  const float *log_prior = nullptr, *kl = nullptr;
  float* odds = nullptr;     // [runs, P, N, N]
  float* mixture = nullptr;  // [runs, P]
};

constexpr std::int64_t kPosteriorRun = 16;

// A sample of log effects q = N(mean, exp(log_sd)) of the edges, p the probability of an edge:
//   effect = mean + exp(log_sd) noise,   kl = sum over i != j of p KL(q || N(0, prior_sd))
struct EffectProblem {
  std::int64_t stores = 0, nodes = 0;
  float prior_sd = 0.0f;
  const float *mean = nullptr, *log_sd = nullptr, *noise = nullptr;  // [B, N, N]
  const float* logits = nullptr;                                     // [B, N, N, 2]
};

struct EffectOutputs {
  float* effect = nullptr;  // [B, N, N]
  float* kl = nullptr;      // [B]
};

struct EffectGradients {
  const float *effect = nullptr, *kl = nullptr;  // null: zero
  float *mean = nullptr, *log_sd = nullptr;      // [B, N, N]
  float* logits = nullptr;                       // [B, N, N, 2]
};

// What is wrong with the sizes; null where nothing is.
const char* check(const PriorProblem& p);
const char* check(const EffectProblem& p);

void prior_forward_cpu(const PriorProblem& p, const PriorOutputs& o, int threads, CpuLevel level);
// `o.log_share` holds the result of the forward pass; the other results are not read.
void prior_backward_cpu(const PriorProblem& p, const PriorOutputs& o, const PriorGradients& g,
                        int threads, CpuLevel level);
void effects_forward_cpu(const EffectProblem& p, const EffectOutputs& o, int threads, CpuLevel level);
void effects_backward_cpu(const EffectProblem& p, const EffectGradients& g, int threads,
                          CpuLevel level);

struct PosteriorKernels {
  std::int64_t (*prior_scratch)(const PriorProblem&);
  // Stores [begin, end), one run; scratch memory starts on a cache line.
  void (*prior_forward)(const PriorProblem&, const PriorOutputs&, float* scratch, std::int64_t begin,
                        std::int64_t end);
  void (*prior_backward)(const PriorProblem&, const PriorOutputs&, const PriorGradients&,
                         float* scratch, std::int64_t begin, std::int64_t end);
  void (*effects_forward)(const EffectProblem&, const EffectOutputs&, std::int64_t begin,
                          std::int64_t end);
  void (*effects_backward)(const EffectProblem&, const EffectGradients&, std::int64_t begin,
                           std::int64_t end);
  static const PosteriorKernels kPortable, kAvx2, kAvx512;
};

}  // namespace causalmmm
