// Moves responses in time, row by row.
#include "response/delay.h"

#include <algorithm>

#include "common/parallel.h"

namespace causalmmm {
namespace {

constexpr std::int64_t kRowsPerRun = 64;

// to [0, kept) = from, later by `delay` <= kept
void move_later(const float* from, float* to, std::int64_t kept, std::int64_t delay) {
  std::fill(to, to + delay, from[0]);
  std::copy_n(from, kept - delay, to + delay);
}

void move_back(const float* to, float* from, std::int64_t steps, std::int64_t kept,
               std::int64_t delay) {
  std::copy_n(to + delay, kept - delay, from);
  std::fill(from + (kept - delay), from + steps, 0.0f);
  for (std::int64_t t = 0; t < delay; ++t) from[0] += to[t];
}

template <class Move>
void each_row(const DelayProblem& p, int threads, Move move) {
  in_runs(p.rows * p.components, kRowsPerRun, 0, threads,
          [&](float*, std::int64_t begin, std::int64_t end) {
            for (std::int64_t row = begin; row < end; ++row) {
              move(row, std::min(p.delay[row % p.components], p.kept));
            }
          });
}

}  // namespace

const char* check(const DelayProblem& p) {
  if (p.rows < 0 || p.components < 1) return "at least one component is needed";
  if (p.steps < 1) return "a window needs at least one step";
  if (p.kept < 0 || p.kept > p.steps) return "at most all rows can be kept";
  if (std::any_of(p.delay, p.delay + p.components, [](std::int64_t d) { return d < 0; })) {
    return "delays must not be negative";
  }
  return nullptr;
}

void delay_forward_cpu(const DelayProblem& p, const float* from, float* to, int threads) {
  each_row(p, threads, [&](std::int64_t row, std::int64_t delay) {
    move_later(from + row * p.steps, to + row * p.kept, p.kept, delay);
  });
}

void delay_backward_cpu(const DelayProblem& p, const float* to, float* from, int threads) {
  each_row(p, threads, [&](std::int64_t row, std::int64_t delay) {
    move_back(to + row * p.kept, from + row * p.steps, p.steps, p.kept, delay);
  });
}

}  // namespace causalmmm
