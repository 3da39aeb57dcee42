// Runs the likelihood core under AddressSanitizer and UndefinedBehaviorSanitizer: every buffer has
// exactly the size it needs. Compares the 16-wide code with the portable one, and three threads with
// one, on the way. Prints the number of cases; exits 1 on a difference.
#include <cstdio>

// The 16-wide code on vectors that any processor has; the entry points take it for AVX-512's.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_LEVEL kAvx512
#include "likelihood/vector_likelihood.h"

#include "agreement.h"
#include "random.h"
#include "response/delay.h"

namespace causalmmm {
const LikelihoodKernels LikelihoodKernels::kAvx2 = LikelihoodKernels::kAvx512;
}

using namespace causalmmm;

namespace {

constexpr std::int64_t kStores = 19, kNodes = 5, kComponents = 3;

// The likelihoods and all gradients, one after the other, and delayed responses and their gradients.
std::vector<float> results(std::int64_t t, std::int64_t lags, std::int64_t terms, int threads,
                           CpuLevel level) {
  Random random;
  const std::int64_t b = kStores, n = kNodes, d = kComponents;
  const auto x = random.normal(b * n * t), responses = random.normal(b * n * d * (t - 1));
  const auto gate = random.normal(b * n * n), effect = random.normal(b * n * n);
  const auto beta = random.normal(n * n * d), solver = random.normal(b * terms * t);
  const auto basis = random.normal(b * t * terms), weights = random.normal(b * n * lags);
  const auto log_noise = random.normal(b * n), incoming = random.normal(b * n);
  const auto active = random.coins<float>(b * n * t);
  const auto context = random.coins<std::uint8_t>(b * t), target = random.coins<std::uint8_t>(b * t);
  LikelihoodProblem p;
  p.stores = b, p.nodes = n, p.components = d, p.steps = t, p.terms = terms, p.lags = lags;
  p.residual = x.data(), p.responses = responses.data(), p.gate = gate.data();
  p.log_effect = effect.data(), p.beta = beta.data(), p.solver = solver.data();
  p.basis = basis.data(), p.ar_weights = weights.data(), p.log_noise = log_noise.data();
  p.active = active.data(), p.context_mask = context.data(), p.target_mask = target.data();
  const std::int64_t runs = (b + kLikelihoodRun - 1) / kLikelihoodRun;
  std::vector<float> nll(b * n), dx(x.size()), dr(responses.size()), dg(gate.size()),
      de(effect.size()), db(runs * beta.size()), ds(solver.size()), dw(weights.size()), dn(b * n);
  const LikelihoodGradients g{incoming.data(), dx.data(), dr.data(), dg.data(), de.data(),
                              db.data(), ds.data(), dw.data(), dn.data()};
  likelihood_forward_cpu(p, nll.data(), threads, level);
  likelihood_backward_cpu(p, g, threads, level);
  const std::vector<std::int64_t> delays{0, 2, 50};
  const DelayProblem moved{b * n, d, t - 1, t - 2, delays.data()};
  std::vector<float> later(b * n * d * (t - 2)), earlier(responses.size());
  delay_forward_cpu(moved, responses.data(), later.data(), threads);
  delay_backward_cpu(moved, later.data(), earlier.data(), threads);
  std::vector<float> all;
  for (const auto* part : {&nll, &dx, &dr, &dg, &de, &db, &ds, &dw, &dn, &later, &earlier}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  return all;
}

}  // namespace

int main() {
  int cases = 0, wrong = 0;
  for (std::int64_t steps : {2, 3, 17, 40}) {
    for (std::int64_t lags : {0, 7, 20}) {
      const std::int64_t terms = 1 + steps / 3 + lags;
      const auto expected = results(steps, lags, terms, 1, CpuLevel::kPortable);
      wrong += differences(results(steps, lags, terms, 1, CpuLevel::kAvx512), expected, 5e-3f);
      wrong += differences(results(steps, lags, terms, 3, CpuLevel::kPortable), expected, 0.0f);
      ++cases;
    }
  }
  std::printf("%d cases\n", cases);
  return wrong ? 1 : 0;
}
