// What every instruction set provides for the evidence.
#pragma once

#include "evidence/evidence.h"

namespace causalmmm {

struct EvidenceKernels {
  // Floats of scratch memory that a call needs, whatever its stores.
  std::int64_t (*window_scratch)(const WindowProblem&);
  std::int64_t (*terms_scratch)(const ResponseTermsProblem&);
  std::int64_t (*mean_field_scratch)(const MeanFieldProblem&);
  std::int64_t (*lag_relevance_scratch)(const LagRelevanceProblem&);
  std::int64_t (*bank_relevance_scratch)(const BankRelevanceProblem&);
  // Stores [begin, end), or regressions of them; scratch memory starts on a cache line.
  void (*window_statistics)(const WindowProblem&, float* scratch, std::int64_t begin,
                            std::int64_t end);
  void (*response_terms)(const ResponseTermsProblem&, float* scratch, std::int64_t begin,
                         std::int64_t end);
  void (*mean_field)(const MeanFieldProblem&, float* scratch, std::int64_t begin, std::int64_t end);
  void (*lag_relevance)(const LagRelevanceProblem&, float* scratch, std::int64_t begin,
                        std::int64_t end);
  void (*bank_relevance)(const BankRelevanceProblem&, float* scratch, std::int64_t begin,
                         std::int64_t end);
  static const EvidenceKernels kPortable, kAvx2, kAvx512;
};

}  // namespace causalmmm
