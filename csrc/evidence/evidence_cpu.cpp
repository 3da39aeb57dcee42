// CPU entry points of the evidence: argument checks, instruction set, threads, scratch memory.
#include "common/parallel.h"
#include "evidence/evidence_kernels.h"

namespace causalmmm {
namespace {

constexpr std::int64_t kStoresPerRun = 4;

}  // namespace

const char* check(const WindowProblem& p) {
  if (p.stores < 0 || p.nodes < 1) return "at least one node is needed";
  if (p.lags < 1) return "at least one lag is needed";
  if (p.steps <= p.lags) return "a window must be longer than the lags";
  return nullptr;
}

const char* check(const ResponseTermsProblem& p) {
  if (p.stores < 0 || p.nodes < 1) return "at least one node is needed";
  if (p.components < 1) return "at least one component is needed";
  if (p.steps < 2) return "a window needs at least two steps";
  if (p.terms < 0 || p.ar_lags < 0) return "sizes must not be negative";
  return nullptr;
}

const char* check(const MeanFieldProblem& p) {
  if (p.stores < 0 || p.nodes < 1) return "at least one node is needed";
  if (p.sweeps < 1) return "at least one sweep is needed";
  if (!(p.spread > 0.0f)) return "the spread must be above 0";
  return nullptr;
}

const char* check(const LagRelevanceProblem& p) {
  if (p.stores < 0 || p.nodes < 1) return "at least one node is needed";
  if (p.lags < 1) return "at least one lag is needed";
  if (p.steps <= p.lags) return "a window must be longer than the lags";
  return nullptr;
}

const char* check(const BankRelevanceProblem& p) {
  if (p.stores < 0 || p.regressions < 0 || p.nodes < 1) return "at least one node is needed";
  if (p.components < 1) return "at least one component is needed";
  if (p.ar_lags < 1) return "at least one lag is needed";
  if (p.steps <= p.ar_lags) return "a window must be longer than the lags";
  for (std::int64_t r = 0; r < p.regressions; ++r) {
    if (p.receivers[r] < 0 || p.receivers[r] >= p.nodes) return "a receiver is not one of the nodes";
  }
  return nullptr;
}

void window_statistics_cpu(const WindowProblem& p, int threads, CpuLevel level) {
  const EvidenceKernels& kernels = kernels_for<EvidenceKernels>(level);
  in_runs(p.stores, kStoresPerRun, kernels.window_scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.window_statistics(p, scratch, begin, end);
          });
}

void response_terms_cpu(const ResponseTermsProblem& p, int threads, CpuLevel level) {
  const EvidenceKernels& kernels = kernels_for<EvidenceKernels>(level);
  in_runs(p.stores, kStoresPerRun, kernels.terms_scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.response_terms(p, scratch, begin, end);
          });
}

void mean_field_cpu(const MeanFieldProblem& p, int threads, CpuLevel level) {
  const EvidenceKernels& kernels = kernels_for<EvidenceKernels>(level);
  in_runs(p.stores, kStoresPerRun, kernels.mean_field_scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.mean_field(p, scratch, begin, end);
          });
}

void lag_relevance_cpu(const LagRelevanceProblem& p, int threads, CpuLevel level) {
  const EvidenceKernels& kernels = kernels_for<EvidenceKernels>(level);
  in_runs(p.stores, 1, kernels.lag_relevance_scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.lag_relevance(p, scratch, begin, end);
          });
}

void bank_relevance_cpu(const BankRelevanceProblem& p, int threads, CpuLevel level) {
  const EvidenceKernels& kernels = kernels_for<EvidenceKernels>(level);
  in_runs(p.stores * p.regressions, kStoresPerRun, kernels.bank_relevance_scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.bank_relevance(p, scratch, begin, end);
          });
}

}  // namespace causalmmm
