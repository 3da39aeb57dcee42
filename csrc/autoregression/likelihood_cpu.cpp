// CPU entry points of the likelihood: argument checks, instruction set, threads, scratch memory.
#include "autoregression/autoregression.h"
#include "common/parallel.h"

namespace causalmmm {
namespace {

constexpr std::int64_t kRowsPerRun = 64;
constexpr std::int64_t kMaxWidth = 16;

// Series and errors of a row, with the zeros around them.
std::int64_t likelihood_scratch(const LikelihoodProblem& p) {
  return 2 * (p.steps + p.lags + kMaxWidth) + kMaxWidth;
}

const LikelihoodKernels& kernels_for(CpuLevel level) {
#ifdef CAUSALMMM_X86
  if (level == CpuLevel::kAvx512) return kAvx512Likelihood;
  if (level == CpuLevel::kAvx2) return kAvx2Likelihood;
#else
  static_cast<void>(level);
#endif
  return kPortableLikelihood;
}

}  // namespace

const char* check(const LikelihoodProblem& p) {
  if (p.stores < 0 || p.nodes < 1) return "at least one node is needed";
  if (p.steps < 2) return "a window needs at least two steps";
  if (p.lags < 0) return "sizes must not be negative";
  return nullptr;
}

void likelihood_forward_cpu(const LikelihoodProblem& p, float* nll, int threads, CpuLevel level) {
  const LikelihoodKernels& kernels = kernels_for(level);
  in_runs(p.stores * p.nodes, kRowsPerRun, likelihood_scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.forward(p, nll, scratch, begin, end);
          });
}

void likelihood_backward_cpu(const LikelihoodProblem& p, const LikelihoodGradients& g, int threads,
                             CpuLevel level) {
  const LikelihoodKernels& kernels = kernels_for(level);
  in_runs(p.stores * p.nodes, kRowsPerRun, likelihood_scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.backward(p, g, scratch, begin, end);
          });
}

}  // namespace causalmmm
