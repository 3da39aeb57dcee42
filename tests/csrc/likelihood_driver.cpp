// Runs the likelihood core under AddressSanitizer and UndefinedBehaviorSanitizer: every buffer has
// exactly the size it needs. Compares the 16-wide code with the portable one, and three threads with
// one, on the way. Prints the number of cases; exits 1 on a difference.
#include <cstdio>
#include <random>
#include <vector>

// The 16-wide code on vectors that any processor has; the entry points take it for AVX-512's.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_LIKELIHOOD kAvx512Likelihood
#include "autoregression/vector_likelihood.h"

#include "agreement.h"

namespace causalmmm {
const LikelihoodKernels kAvx2Likelihood = kAvx512Likelihood;
}

using namespace causalmmm;

namespace {

// The likelihoods and all gradients, one after the other.
std::vector<float> results(std::int64_t b, std::int64_t n, std::int64_t t, std::int64_t lags,
                           int threads, CpuLevel level) {
  std::mt19937 engine{7};
  std::normal_distribution<float> normal;
  const auto draw = [&](std::int64_t count) {
    std::vector<float> values(count);
    for (float& v : values) v = normal(engine);
    return values;
  };
  const auto x = draw(b * n * t), message = draw(b * n * (t - 1)), weights = draw(b * n * lags);
  const auto log_noise = draw(b * n), incoming = draw(b * n), active = draw(b * n * t);
  std::vector<std::uint8_t> target(b * t);
  for (auto& v : target) v = engine() % 3 != 0;
  LikelihoodProblem p;
  p.stores = b, p.nodes = n, p.steps = t, p.lags = lags;
  p.residual = x.data(), p.message = message.data(), p.ar_weights = weights.data();
  p.log_noise = log_noise.data(), p.active = active.data(), p.target_mask = target.data();
  std::vector<float> nll(b * n), dx(x.size()), dm(message.size()), dw(weights.size()), dn(b * n);
  const LikelihoodGradients g{incoming.data(), dx.data(), dm.data(), dw.data(), dn.data()};
  likelihood_forward_cpu(p, nll.data(), threads, level);
  likelihood_backward_cpu(p, g, threads, level);
  std::vector<float> all;
  for (const auto* part : {&nll, &dx, &dm, &dw, &dn}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  return all;
}

}  // namespace

int main() {
  int cases = 0, wrong = 0;
  for (std::int64_t steps : {2, 3, 16, 17, 40}) {
    for (std::int64_t lags : {0, 1, 7, 20}) {
      const auto expected = results(30, 5, steps, lags, 1, CpuLevel::kPortable);
      wrong += differences(results(30, 5, steps, lags, 1, CpuLevel::kAvx512), expected, 1e-3f);
      wrong += differences(results(30, 5, steps, lags, 3, CpuLevel::kPortable), expected, 0.0f);
      ++cases;
    }
  }
  std::printf("%d cases\n", cases);
  return wrong ? 1 : 0;
}
