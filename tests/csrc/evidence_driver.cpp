// Runs the evidence core under AddressSanitizer and UndefinedBehaviorSanitizer: every buffer has
// exactly the size it needs. Compares the 16-wide code with the portable one, and three threads with
// one, on the way. Prints the number of cases; exits 1 on a difference.
#include <cstdio>
#include <vector>

// The 16-wide code on vectors that any processor has; the entry points take it for AVX-512's.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_LEVEL kAvx512
#include "evidence/vector_evidence.h"

#include "agreement.h"
#include "random.h"

namespace causalmmm {
const EvidenceKernels EvidenceKernels::kAvx2 = EvidenceKernels::kAvx512;
}

using namespace causalmmm;

namespace {

struct Sizes {
  std::int64_t stores, nodes, steps, lags, components, terms;
};

constexpr EvidenceScales kScales{10.0f, 8.0f, 0.01f};

// All results of all operators in float32, one after the other.
std::vector<float> results(const Sizes& s, int threads, CpuLevel level) {
  Random random;
  const std::int64_t b = s.stores, n = s.nodes, t = s.steps, wide = n * s.components;
  const auto residual = random.normal(b * n * t), active = random.coins<float>(b * n * t);
  const auto mask = random.coins<std::uint8_t>(b * t);
  std::vector<float> edges(b * n * n * (2 * s.lags + 5)), features(b * n * (s.lags + 5));
  std::vector<float> spread(b * n), rows(b * n);
  WindowProblem w;
  w.stores = b, w.nodes = n, w.steps = t, w.lags = s.lags, w.scales = kScales;
  w.residual = w.received = residual.data(), w.active = active.data(), w.context_mask = mask.data();
  w.edges = edges.data(), w.node_features = features.data();
  w.spread = spread.data(), w.rows = rows.data();
  window_statistics_cpu(w, threads, level);

  const auto ar = random.normal(n * 3), responses = random.normal(b * wide * (t - 1));
  const auto solver = random.normal(b * s.terms * t), basis = random.normal(b * s.terms * t);
  const auto beta = random.normal(n * wide), log_noise = random.normal(b * n);
  std::vector<float> statistics(b * n * n * kResponseStatistics), xty(b * n * n), square(b * n * n);
  std::vector<float> overlap(b * n * n * n), gram(b * wide * wide), cross(b * wide * n), share(b * n);
  ResponseTermsProblem r;
  r.stores = b, r.nodes = n, r.components = s.components, r.steps = t, r.terms = s.terms;
  r.ar_lags = 3, r.scales = kScales;
  r.residual = residual.data(), r.ar_weights = ar.data(), r.responses = responses.data();
  r.solver = solver.data(), r.basis = basis.data(), r.beta = beta.data();
  r.log_noise = log_noise.data(), r.active = active.data(), r.context_mask = mask.data();
  r.statistics = statistics.data(), r.xty = xty.data(), r.xtx_diag = square.data();
  r.overlap = overlap.data(), r.gram = gram.data(), r.cross = cross.data(), r.share = share.data();
  response_terms_cpu(r, threads, level);

  const auto products = random.normal(b * n * n), odds = random.normal(b * n * n);
  std::vector<float> factor(b * n * n), mean(b * n * n);
  std::vector<float> identity(b * n * n * n);  // a well-behaved overlap: the sweeps would amplify
  for (std::int64_t k = 0; k < b * n * n * n; ++k) identity[k] = k / n % (n + 1) == 0 ? 2.0f : 0.1f;
  MeanFieldProblem m;
  m.stores = b, m.nodes = n, m.sweeps = 3, m.spread = 0.3f;
  m.xty = products.data(), m.overlap = identity.data(), m.log_odds = odds.data();
  m.factor = factor.data(), m.post_mean = mean.data();
  mean_field_cpu(m, threads, level);

  std::vector<float> all;
  for (const auto* part : {&edges, &features, &spread, &rows, &statistics, &xty, &square, &overlap,
                           &gram, &cross, &share, &factor, &mean}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  return all;
}

// Those of the regressions under relevance priors, in float64.
std::vector<double> relevance(const Sizes& s, int threads, CpuLevel level) {
  Random random;
  const std::int64_t b = s.stores, n = s.nodes, t = s.steps, rows = t - s.lags, own = s.terms + 1;
  const auto series = random.normal<double>(b * n * t), used = random.coins<double>(b * n * rows);
  auto outcome = random.normal<double>(b * n * rows);
  for (std::size_t k = 0; k < outcome.size(); ++k) outcome[k] *= used[k];
  const std::vector<double> freedom(b * n, 0.7 * rows);
  std::vector<double> variance(b * n * n * s.lags), noise(b * n), factor(b * n * n), score(b * n * n);
  LagRelevanceProblem l;
  l.stores = b, l.nodes = n, l.steps = t, l.lags = s.lags;
  l.rules = {1e-10, 1e3, 1e-6, 1e-6, 6}, l.ar_variance = 0.1, l.most_precision_ratio = 1e4;
  l.series = series.data(), l.used = used.data(), l.outcome = outcome.data();
  l.freedom = freedom.data(), l.variance = variance.data(), l.noise = noise.data();
  l.factor = factor.data(), l.z_score = score.data();
  lag_relevance_cpu(l, threads, level);

  const std::int64_t regressions = 2 * n, width = n * s.components + own;
  const auto bank = random.normal<double>(b * t * n * s.components);
  const auto explained = random.coins<double>(b * n * (t - own));
  const auto now = random.coins<std::uint8_t>(regressions * n);
  std::vector<std::int64_t> receivers(regressions);
  for (std::int64_t r = 0; r < regressions; ++r) receivers[r] = r % n;
  std::vector<double> factors(b * regressions * n), share(b * regressions * n);
  std::vector<double> scores(b * regressions * n), weight(b * regressions * width);
  BankRelevanceProblem p;
  p.stores = b, p.regressions = regressions, p.nodes = n, p.components = s.components;
  p.steps = t, p.ar_lags = own, p.rules = {1e-8, 1e2, 1e-4, 1e-8, 5}, p.calendar_share = 0.1;
  p.bank = bank.data(), p.received = series.data(), p.used = explained.data();
  p.receivers = receivers.data(), p.now = now.data(), p.factor = factors.data();
  p.share = share.data(), p.z_score = scores.data(), p.weight = weight.data();
  bank_relevance_cpu(p, threads, level);

  std::vector<double> all;
  for (const auto* part : {&variance, &noise, &factor, &score, &factors, &share, &scores, &weight}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  return all;
}

}  // namespace

int main() {
  int cases = 0, wrong = 0;
  for (std::int64_t nodes : {1, 3, 8, 17}) {
    for (std::int64_t steps : {30, 61}) {
      for (std::int64_t terms : {0, 1, 9}) {
        const Sizes sizes{5, nodes, steps, 1 + terms, 1 + nodes % 6, terms};
        const std::vector<float> expected = results(sizes, 1, CpuLevel::kPortable);
        wrong += differences(results(sizes, 1, CpuLevel::kAvx512), expected, 5e-3f);
        wrong += differences(results(sizes, 3, CpuLevel::kPortable), expected, 0.0f);
        if (nodes < 17 && terms < 9) {  // sanitizers take minutes for 170 coefficients
          const std::vector<double> exact = relevance(sizes, 1, CpuLevel::kPortable);
          wrong += differences(relevance(sizes, 1, CpuLevel::kAvx512), exact, 1e-7);
          wrong += differences(relevance(sizes, 3, CpuLevel::kPortable), exact, 0.0);
        }
        ++cases;
      }
    }
  }
  std::printf("%d cases\n", cases);
  return wrong ? 1 : 0;
}
