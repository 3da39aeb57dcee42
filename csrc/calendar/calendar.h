// Regression of every series of a store on its calendar, and what is left of the series.
// Public to the binding; no torch, no Python. Dense arrays in row-major order, float32 but for what
// is double. The formulas are those of engine/nn/baseline.py.
//
//   C = basis on the context rows,  S = (C'C + diag exp(log_ridge))^-1  in double,  K = S C'
//   y = x, or the mean of the rows on which a channel spends where it does not
//   c = K (y - shared basis'),  residual = y - (shared + c) basis',  sent: the same of x
#pragma once

#include <cstdint>

#include "common/cpu_level.h"

namespace causalmmm {

constexpr float kMaxLogRidge = 12.0f;

struct CalendarProblem {
  std::int64_t stores = 0, nodes = 0, steps = 0, terms = 0;
  const float* x = nullptr;                     // [B, N, T]
  const float* basis = nullptr;                 // [B, T, Q]
  const std::uint8_t* context_mask = nullptr;   // [B, T], 0 or 1
  const std::uint8_t* target_mask = nullptr;    // [B, T]; a row in neither mask is padding
  const std::uint8_t* spend = nullptr;          // [N], 1 where zero means no spend
  const float* shared = nullptr;                // [N, Q]
  const float* log_ridge = nullptr;             // [Q]
};

struct CalendarOutputs {
  float* residual = nullptr;      // [B, N, T], zero on padding and where a series is not active
  float* sent = nullptr;          // [B, N, T]
  float* active = nullptr;        // [B, N, T], 0 or 1
  float* coefficients = nullptr;  // [B, N, Q], shared + c
  float* solver = nullptr;        // K [B, Q, T]
  double* spread = nullptr;       // S [B, Q, Q]
};

// Of residual, coefficients, solver and spread (null: zero), and of the parameters, in sums over runs
// of `calendar_run` stores.
struct CalendarGradients {
  const float *residual = nullptr, *coefficients = nullptr, *solver = nullptr;
  const double* spread = nullptr;
  float* shared = nullptr;     // [runs, N, Q]
  float* log_ridge = nullptr;  // [runs, Q]
};

constexpr std::int64_t kCalendarRun = 8;

// What is wrong with the sizes; null where nothing is.
const char* check(const CalendarProblem& p);

void calendar_forward_cpu(const CalendarProblem& p, const CalendarOutputs& o, int threads,
                          CpuLevel level);
// `o` holds the results of the forward pass.
void calendar_backward_cpu(const CalendarProblem& p, const CalendarOutputs& o,
                           const CalendarGradients& g, int threads, CpuLevel level);

struct CalendarKernels {
  std::int64_t (*scratch)(const CalendarProblem&);
  // Stores [begin, end), one run; scratch memory starts on a cache line.
  void (*forward)(const CalendarProblem&, const CalendarOutputs&, float* scratch, std::int64_t begin,
                  std::int64_t end);
  void (*backward)(const CalendarProblem&, const CalendarOutputs&, const CalendarGradients&,
                   float* scratch, std::int64_t begin, std::int64_t end);
  static const CalendarKernels kPortable, kAvx2, kAvx512;
};

}  // namespace causalmmm
