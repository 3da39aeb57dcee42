// Runs the posterior core under AddressSanitizer and UndefinedBehaviorSanitizer: every buffer has
// exactly the size it needs. Compares the 16-wide code with the portable one, and three threads with
// one, on the way. Prints the number of cases; exits 1 on a difference.
#include <cstdio>

// The 16-wide code on vectors that any processor has; the entry points take it for AVX-512's.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_LEVEL kAvx512
#include "posterior/vector_posterior.h"

#include "agreement.h"
#include "random.h"

namespace causalmmm {
const PosteriorKernels PosteriorKernels::kAvx2 = PosteriorKernels::kAvx512;
}

using namespace causalmmm;

namespace {

constexpr std::int64_t kStores = 35;

std::vector<float> results(std::int64_t n, std::int64_t count, int threads, CpuLevel level) {
  Random random;
  const std::int64_t b = kStores, pairs = n * n, runs = (b + kPosteriorRun - 1) / kPosteriorRun;
  const auto odds = random.normal(count * pairs), mixture = random.normal(count);
  const auto factor = random.normal(b * pairs), incoming = random.normal(b * pairs * 2);
  auto fixed = random.normal(pairs * 2);
  fixed[0] = -__builtin_inff();
  const auto of_kl = random.normal(b), noise = random.normal(b * pairs);
  PriorProblem p;
  p.stores = b, p.nodes = n, p.prototypes = count, p.bound = 1.0f;
  p.odds = odds.data(), p.mixture = mixture.data(), p.factor = factor.data();
  p.fixed_prior = fixed.data();
  std::vector<float> log_prior(b * pairs * 2), kl(b), log_share(b * count);
  const PriorOutputs o{log_prior.data(), kl.data(), log_share.data()};
  prior_forward_cpu(p, o, threads, level);
  std::vector<float> d_odds(runs * count * pairs), d_mixture(runs * count);
  prior_backward_cpu(p, o, {incoming.data(), of_kl.data(), d_odds.data(), d_mixture.data()}, threads,
                     level);
  EffectProblem e;
  e.stores = b, e.nodes = n, e.prior_sd = 0.3f;
  e.mean = factor.data(), e.log_sd = noise.data(), e.noise = noise.data(), e.logits = incoming.data();
  std::vector<float> effect(b * pairs), effect_kl(b), mean(b * pairs), sd(b * pairs),
      logits(b * pairs * 2);
  effects_forward_cpu(e, {effect.data(), effect_kl.data()}, threads, level);
  effects_backward_cpu(e, {noise.data(), of_kl.data(), mean.data(), sd.data(), logits.data()},
                       threads, level);
  for (float& v : log_prior) v = v == -__builtin_inff() ? -1e9f : v;
  std::vector<float> all;
  for (const auto* part : {&log_prior, &kl, &log_share, &d_odds, &d_mixture, &effect, &effect_kl, &mean,
                           &sd, &logits}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  return all;
}

}  // namespace

int main() {
  int cases = 0, wrong = 0;
  for (std::int64_t nodes : {1, 2, 5, 9}) {
    for (std::int64_t prototypes : {1, 8}) {
      const auto expected = results(nodes, prototypes, 1, CpuLevel::kPortable);
      wrong += differences(results(nodes, prototypes, 1, CpuLevel::kAvx512), expected, 1e-3f);
      wrong += differences(results(nodes, prototypes, 3, CpuLevel::kPortable), expected, 0.0f);
      ++cases;
    }
  }
  std::printf("%d cases\n", cases);
  return wrong ? 1 : 0;
}
