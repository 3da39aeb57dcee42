// CPU entry points of the evidence: argument checks, instruction set, threads, scratch memory.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "evidence/evidence_kernels.h"

namespace causalmmm {
namespace {

constexpr std::int64_t kStoresPerPart = 4;  // parts are dealt to threads as they become free

const EvidenceKernels& kernels_for(CpuLevel level) {
#ifdef CAUSALMMM_X86
  if (level == CpuLevel::kAvx512) return kAvx512Evidence;
  if (level == CpuLevel::kAvx2) return kAvx2Evidence;
#else
  static_cast<void>(level);
#endif
  return kPortableEvidence;
}

// Calls work(scratch, begin, end) for all stores; every thread has `floats` of scratch memory.
template <class Work>
void each_part(std::int64_t stores, std::int64_t floats, int threads, Work work) {
  constexpr std::size_t kLine = 64;
  const std::int64_t parts = (stores + kStoresPerPart - 1) / kStoresPerPart;
  const int workers = static_cast<int>(std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(parts, 1)));
  const auto run = [&](std::int64_t first, std::int64_t step) {
    std::vector<float> memory(static_cast<std::size_t>(floats) + kLine / sizeof(float));
    const auto start = reinterpret_cast<std::uintptr_t>(memory.data());
    float* scratch = memory.data() + (kLine - start % kLine) % kLine / sizeof(float);
    for (std::int64_t part = first; part < parts; part += step) {
      work(scratch, part * kStoresPerPart, std::min(stores, (part + 1) * kStoresPerPart));
    }
  };
#ifdef _OPENMP
  if (workers > 1) {
#pragma omp parallel for num_threads(workers) schedule(static, 1)
    for (int worker = 0; worker < workers; ++worker) run(worker, workers);
    return;
  }
#endif
  run(0, 1);
}

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

void window_statistics_cpu(const WindowProblem& p, int threads, CpuLevel level) {
  const EvidenceKernels& kernels = kernels_for(level);
  each_part(p.stores, kernels.window_scratch(p), threads,
            [&](float* scratch, std::int64_t begin, std::int64_t end) {
              kernels.window_statistics(p, scratch, begin, end);
            });
}

void response_terms_cpu(const ResponseTermsProblem& p, int threads, CpuLevel level) {
  const EvidenceKernels& kernels = kernels_for(level);
  each_part(p.stores, kernels.terms_scratch(p), threads,
            [&](float* scratch, std::int64_t begin, std::int64_t end) {
              kernels.response_terms(p, scratch, begin, end);
            });
}

void mean_field_cpu(const MeanFieldProblem& p, int threads, CpuLevel level) {
  const EvidenceKernels& kernels = kernels_for(level);
  each_part(p.stores, kernels.mean_field_scratch(p), threads,
            [&](float* scratch, std::int64_t begin, std::int64_t end) {
              kernels.mean_field(p, scratch, begin, end);
            });
}

}  // namespace causalmmm
