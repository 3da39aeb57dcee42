// Closed-form evidence for edges, store by store: window statistics, response statistics, mean field,
// and regressions whose prior variances are chosen by evidence. Public to the binding; no torch, no
// Python. All arrays are dense in row-major order, float32 where a problem does not say otherwise; the
// sender's axis comes before the receiver's there. The formulas are those of engine/evidence, and of
// engine/prior/responses.py.
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

// Bounds of the fixed-point updates of prior variances and noise.
struct RelevanceRules {
  double least_variance, most_variance, least_noise, least_gamma;
  std::int64_t rounds;
};

// Every receiver on lags 1 .. L of all series, M = N L: engine/evidence/ard.py. Float64, receiver first.
struct LagRelevanceProblem {
  std::int64_t stores = 0, nodes = 0, steps = 0, lags = 0;
  RelevanceRules rules{};
  double ar_variance = 0.0;          // of an autoregressive coefficient, beside that of all, at first
  double most_precision_ratio = 0.0; // information of the data on a coefficient over its prior's
  const double* series = nullptr;    // [B, N, T]
  const double *used = nullptr, *outcome = nullptr;  // [B, N, T - L], 0 or 1; zero where not used
  const double* freedom = nullptr;   // [B, N]
  double* variance = nullptr;        // [B, N, M], lag 1 first within each series
  double* noise = nullptr;           // [B, N]
  double *factor = nullptr, *z_score = nullptr;  // [B, N, N]: receiver, sender
};

// R regressions, each of one receiver on D responses of every series and its own lags 1 .. P, with
// M = N D + P columns: engine/prior/responses.py. Float64.
struct BankRelevanceProblem {
  std::int64_t stores = 0, regressions = 0, nodes = 0, components = 0, steps = 0, ar_lags = 0;
  RelevanceRules rules{};
  double calendar_share = 0.0;          // of the degrees of freedom
  const double* bank = nullptr;         // [B, T, N, D]
  const double* received = nullptr;     // [B, N, T]
  const double* used = nullptr;         // [B, N, T - P], 0 or 1
  const std::int64_t* receivers = nullptr;  // [R]
  const std::uint8_t* now = nullptr;    // [R, N], 1 where the sender's present row acts, not the last
  double *factor = nullptr, *share = nullptr, *z_score = nullptr;  // [B, R, N]
  double* weight = nullptr;             // [B, R, M], of columns and outcomes as they are
};

// What is wrong with the sizes; null where nothing is.
const char* check(const WindowProblem& p);
const char* check(const ResponseTermsProblem& p);
const char* check(const MeanFieldProblem& p);
const char* check(const LagRelevanceProblem& p);
const char* check(const BankRelevanceProblem& p);

void window_statistics_cpu(const WindowProblem& p, int threads, CpuLevel level);
void response_terms_cpu(const ResponseTermsProblem& p, int threads, CpuLevel level);
void mean_field_cpu(const MeanFieldProblem& p, int threads, CpuLevel level);
void lag_relevance_cpu(const LagRelevanceProblem& p, int threads, CpuLevel level);
void bank_relevance_cpu(const BankRelevanceProblem& p, int threads, CpuLevel level);

}  // namespace causalmmm
