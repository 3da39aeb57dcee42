// Responses that act some steps later: rows of a series moved in time. No torch, no Python.
#pragma once

#include <cstdint>

namespace causalmmm {

// to [B, N, D, K] = from [B, N, D, T] with component d later by delay[d] steps, up to row K <= T; before
// its first value it has that value.
struct DelayProblem {
  std::int64_t rows = 0, components = 0, steps = 0, kept = 0;  // B N, D, T, K
  const std::int64_t* delay = nullptr;               // [D]
};

// What is wrong with the sizes; null where nothing is.
const char* check(const DelayProblem& p);

void delay_forward_cpu(const DelayProblem& p, const float* from, float* to, int threads);
// Gradients: `from` [B, N, D, T], from `to` [B, N, D, K].
void delay_backward_cpu(const DelayProblem& p, const float* to, float* from, int threads);

}  // namespace causalmmm
