// Runs the calendar core under AddressSanitizer and UndefinedBehaviorSanitizer: every buffer has
// exactly the size it needs. Compares the 16-wide code with the portable one, and three threads with
// one, on the way. Prints the number of cases; exits 1 on a difference.
#include <cstdio>

// The 16-wide code on vectors that any processor has; the entry points take it for AVX-512's.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_LEVEL kAvx512
#include "calendar/vector_calendar.h"

#include "agreement.h"
#include "random.h"

namespace causalmmm {
const CalendarKernels CalendarKernels::kAvx2 = CalendarKernels::kAvx512;
}

using namespace causalmmm;

namespace {

constexpr std::int64_t kStores = 19;

// All results and gradients, one after the other.
std::vector<float> results(std::int64_t n, std::int64_t t, std::int64_t q, int threads,
                           CpuLevel level) {
  Random random;
  const std::int64_t b = kStores;
  const auto x = random.normal(b * n * t), basis = random.normal(b * t * q);
  const auto context = random.coins<std::uint8_t>(b * t), target = random.coins<std::uint8_t>(b * t);
  const auto spend = random.coins<std::uint8_t>(n);
  const auto shared = random.normal(n * q), log_ridge = random.normal(q);
  const auto from_residual = random.normal(b * n * t), from_coefficients = random.normal(b * n * q);
  const auto from_solver = random.normal(b * q * t);
  CalendarProblem p;
  p.stores = b, p.nodes = n, p.steps = t, p.terms = q;
  p.x = x.data(), p.basis = basis.data(), p.context_mask = context.data();
  p.target_mask = target.data(), p.spend = spend.data();
  p.shared = shared.data(), p.log_ridge = log_ridge.data();
  std::vector<float> residual(x.size()), sent(x.size()), active(x.size()),
      coefficients(b * n * q), solver(b * q * t);
  std::vector<double> spread(b * q * q);
  const CalendarOutputs o{residual.data(), sent.data(), active.data(), coefficients.data(),
                          solver.data(), spread.data()};
  calendar_forward_cpu(p, o, threads, level);
  const std::int64_t runs = (b + kCalendarRun - 1) / kCalendarRun;
  std::vector<float> of_shared(runs * n * q), of_ridge(runs * q), all;
  for (const bool every : {true, false}) {
    CalendarGradients g;
    g.residual = from_residual.data(), g.shared = of_shared.data(), g.log_ridge = of_ridge.data();
    if (every) {
      g.coefficients = from_coefficients.data(), g.solver = from_solver.data();
      g.spread = spread.data();
    }
    calendar_backward_cpu(p, o, g, threads, level);
    all.insert(all.end(), of_shared.begin(), of_shared.end());
    all.insert(all.end(), of_ridge.begin(), of_ridge.end());
  }
  for (const auto* part : {&residual, &sent, &active, &coefficients, &solver}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  all.insert(all.end(), spread.begin(), spread.end());
  return all;
}

}  // namespace

int main() {
  int cases = 0, wrong = 0;
  for (std::int64_t nodes : {1, 3, 17}) {
    for (std::int64_t steps : {1, 16, 37}) {
      for (std::int64_t terms : {1, 9, 17}) {
        const auto expected = results(nodes, steps, terms, 1, CpuLevel::kPortable);
        wrong += differences(results(nodes, steps, terms, 1, CpuLevel::kAvx512), expected, 5e-3f);
        wrong += differences(results(nodes, steps, terms, 3, CpuLevel::kPortable), expected, 0.0f);
        ++cases;
      }
    }
  }
  std::printf("%d cases\n", cases);
  return wrong ? 1 : 0;
}
