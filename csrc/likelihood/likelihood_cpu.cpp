// CPU entry points of the likelihood: argument checks, instruction set, threads, scratch memory.
#include "common/parallel.h"
#include "likelihood/likelihood.h"

namespace causalmmm {

const char* check(const LikelihoodProblem& p) {
  if (p.stores < 0 || p.nodes < 1) return "at least one node is needed";
  if (p.components < 1) return "at least one component is needed";
  if (p.steps < 2) return "a window needs at least two steps";
  if (p.terms < 1) return "the calendar needs at least one term";
  if (p.lags < 0) return "sizes must not be negative";
  return nullptr;
}

void likelihood_forward_cpu(const LikelihoodProblem& p, float* nll, int threads, CpuLevel level) {
  const LikelihoodKernels& kernels = kernels_for<LikelihoodKernels>(level);
  in_runs(p.stores, kLikelihoodRun, kernels.scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.forward(p, nll, scratch, begin, end);
          });
}

void likelihood_backward_cpu(const LikelihoodProblem& p, const LikelihoodGradients& g, int threads,
                             CpuLevel level) {
  const LikelihoodKernels& kernels = kernels_for<LikelihoodKernels>(level);
  in_runs(p.stores, kLikelihoodRun, kernels.scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.backward(p, g, scratch, begin, end);
          });
}

}  // namespace causalmmm
