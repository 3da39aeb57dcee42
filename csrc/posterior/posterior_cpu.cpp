// CPU entry points of the posterior: argument checks, instruction set, threads, scratch memory.
#include "common/parallel.h"
#include "posterior/posterior.h"

namespace causalmmm {

const char* check(const PriorProblem& p) {
  if (p.stores < 0 || p.nodes < 1) return "at least one node is needed";
  if (p.prototypes < 1) return "at least one prototype is needed";
  if (!(p.bound > 0.0f)) return "the bound must be above 0";
  return nullptr;
}

const char* check(const EffectProblem& p) {
  if (p.stores < 0 || p.nodes < 1) return "at least one node is needed";
  if (!(p.prior_sd > 0.0f)) return "the prior's standard deviation must be above 0";
  return nullptr;
}

void prior_forward_cpu(const PriorProblem& p, const PriorOutputs& o, int threads, CpuLevel level) {
  const PosteriorKernels& kernels = kernels_for<PosteriorKernels>(level);
  in_runs(p.stores, kPosteriorRun, kernels.prior_scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.prior_forward(p, o, scratch, begin, end);
          });
}

void prior_backward_cpu(const PriorProblem& p, const PriorOutputs& o, const PriorGradients& g,
                        int threads, CpuLevel level) {
  const PosteriorKernels& kernels = kernels_for<PosteriorKernels>(level);
  in_runs(p.stores, kPosteriorRun, kernels.prior_scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.prior_backward(p, o, g, scratch, begin, end);
          });
}

void effects_forward_cpu(const EffectProblem& p, const EffectOutputs& o, int threads,
                         CpuLevel level) {
  const PosteriorKernels& kernels = kernels_for<PosteriorKernels>(level);
  in_runs(p.stores, kPosteriorRun, 0, threads,
          [&](float*, std::int64_t begin, std::int64_t end) {
            kernels.effects_forward(p, o, begin, end);
          });
}

void effects_backward_cpu(const EffectProblem& p, const EffectGradients& g, int threads,
                          CpuLevel level) {
  const PosteriorKernels& kernels = kernels_for<PosteriorKernels>(level);
  in_runs(p.stores, kPosteriorRun, 0, threads,
          [&](float*, std::int64_t begin, std::int64_t end) {
            kernels.effects_backward(p, g, begin, end);
          });
}

}  // namespace causalmmm
