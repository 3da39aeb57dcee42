// Closed-form evidence for edges, store by store: window statistics, response statistics, mean field.
// Public to the binding; no torch, no Python. All arrays are dense float32 in row-major order; the
// sender's axis comes before the receiver's. The formulas are those of engine/evidence.
#pragma once

#include <cstdint>

#include "common/cpu_level.h"

namespace causalmmm {

// Scales of the features, from engine/evidence/features.py.
struct EvidenceScales {
  float ridge, clip, flat;
};

struct WindowProblem {
  std::int64_t stores = 0, nodes = 0, steps = 0, lags = 0;
  const float *residual = nullptr, *received = nullptr, *active = nullptr;  // [B, N, T]
  const std::uint8_t* context_mask = nullptr;                               // [B, T], 0 or 1
  EvidenceScales scales{};
  float* edges = nullptr;         // [B, N, N, 2 lags + 5]
  float* node_features = nullptr; // [B, N, lags + 5]
  float *spread = nullptr, *rows = nullptr;  // [B, N]
};

struct ResponseTermsProblem {
  std::int64_t stores = 0, nodes = 0, components = 0, steps = 0, terms = 0, ar_lags = 0;
  const float* residual = nullptr;    // [B, N, T]
  const float* ar_weights = nullptr;  // [N, ar_lags], lag 1 first
  const float* responses = nullptr;   // [B, N D, T - 1]
  const float* solver = nullptr;      // [B, terms, T], calendar's coefficients of a series
  const float* basis = nullptr;       // [B, T, terms]; row t + 1 is the calendar of response t
  const float* beta = nullptr;        // [N, N, D]
  const float* log_noise = nullptr;   // [B, N]
  const float* active = nullptr;      // [B, N, T]
  const std::uint8_t* context_mask = nullptr;  // [B, T], 0 or 1
  EvidenceScales scales{};
  float* statistics = nullptr;                  // [B, N, N, kResponseStatistics]
  float *xty = nullptr, *xtx_diag = nullptr;    // [B, N, N]
  float* overlap = nullptr;                     // [B, N, N, N]: sender, other sender, receiver
  float* gram = nullptr;                        // [B, N D, N D]
  float* cross = nullptr;                       // [B, N D, N]
  float* share = nullptr;                       // [B, N]
};

constexpr std::int64_t kResponseStatistics = 5;

struct MeanFieldProblem {
  std::int64_t stores = 0, nodes = 0, sweeps = 0;
  float spread = 0.0f;
  const float* xty = nullptr;       // [B, N, N]
  const float* overlap = nullptr;   // [B, N, N, N]: sender, other sender, receiver
  const float* log_odds = nullptr;  // [B, N, N]
  float *factor = nullptr, *post_mean = nullptr;  // [B, N, N]
};

// What is wrong with the sizes; null where nothing is.
const char* check(const WindowProblem& p);
const char* check(const ResponseTermsProblem& p);
const char* check(const MeanFieldProblem& p);

void window_statistics_cpu(const WindowProblem& p, int threads, CpuLevel level);
void response_terms_cpu(const ResponseTermsProblem& p, int threads, CpuLevel level);
void mean_field_cpu(const MeanFieldProblem& p, int threads, CpuLevel level);

}  // namespace causalmmm
