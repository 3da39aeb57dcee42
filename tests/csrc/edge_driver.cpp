// Runs the edge core under AddressSanitizer and UndefinedBehaviorSanitizer: every buffer has exactly
// the size it needs. Compares the vector widths with each other. Prints the number of cases; exits 1
// on a difference.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "edge/edge_kernels.h"

// The 16-wide code on vectors that any processor has, in the place of the AVX-512 one.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_LEVEL kAvx512
#include "edge/vector_edges.h"

namespace causalmmm {
const EdgeKernels EdgeKernels::kAvx2 = EdgeKernels::kPortable;
}

using namespace causalmmm;

namespace {

unsigned state = 1;
float random_float() {
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
}

struct Memory {
  std::vector<std::pair<std::unique_ptr<float[]>, std::int64_t>> blocks;

  float* make(std::int64_t count) {
    blocks.emplace_back(new float[count], count);
    float* p = blocks.back().first.get();
    for (std::int64_t k = 0; k < count; ++k) p[k] = random_float() * 0.5f;
    return p;
  }
};

struct Case {
  Memory inputs, results;
  EdgeProblem p;
  EdgeOutputs mean, sampled;
  EdgeOutputGradients of_mean, of_sample;
  EdgeGradients g;
  std::vector<std::int64_t> store;
  float *states, *moments, *d_states;

  Case(std::int64_t stores, std::int64_t nodes, std::int64_t width, std::int64_t features,
       std::int64_t types, int flags) {
    const std::int64_t rows = stores * nodes, pairs = rows * nodes, square = width * width;
    p.stores = stores, p.nodes = nodes, p.width = width, p.features = features, p.types = types;
    p.sender1 = inputs.make(rows * width), p.receiver1 = inputs.make(rows * width);
    p.w2 = inputs.make(square), p.b2 = inputs.make(width);
    g.sender1 = results.make(rows * width), g.receiver1 = results.make(rows * width);
    g.w2 = results.make(square), g.b2 = results.make(width);
    if (features) {
      p.edge_features = inputs.make(pairs * features), p.wf = inputs.make(width * features);
      g.wf = results.make(width * features);
      if (flags & 1) g.edge_features = results.make(pairs * features);
    }
    p.sender2 = inputs.make(rows * width), p.receiver2 = inputs.make(rows * width);
    p.w3 = inputs.make(square), p.w4 = inputs.make(square), p.b4 = inputs.make(width);
    p.wo = inputs.make(types * width), p.bo = inputs.make(types);
    g.sender2 = results.make(rows * width), g.receiver2 = results.make(rows * width);
    g.w3 = results.make(square), g.w4 = results.make(square), g.b4 = results.make(width);
    g.wo = results.make(types * width), g.bo = results.make(types);
    p.prior_per_store = flags & 1;
    float* prior = inputs.make((p.prior_per_store ? pairs : nodes * nodes) * types);
    prior[types] = -INFINITY;  // no type 0 from node 0 to node 1
    p.log_prior = prior;
    if (flags & 1) g.log_prior = results.make(pairs * types);
    for (std::int64_t b = 0; b < stores; ++b) store.push_back(b * 12345678901);
    p.store_ids = store.data(), p.seed = 0x123456789abcdef0u;
    p.noisy = flags & 2, p.hard = flags & 4, p.temperature = 0.7f;
    mean.mean = results.make(rows * width);
    states = results.make(pairs * width), moments = results.make(pairs * 2);
    d_states = results.make(pairs * width);
    sampled.z = results.make(pairs * types), sampled.logits = results.make(pairs * types);
    sampled.kl = results.make(stores);
    of_mean.mean = inputs.make(rows * width);
    if (flags & 4) of_mean.states = inputs.make(pairs * width);
    of_sample.z = inputs.make(pairs * types);
    if (flags & 1) of_sample.logits = inputs.make(pairs * types);
    if (flags & 2) of_sample.kl = inputs.make(stores);
  }

  // Everything that the four passes write, one after the other; then again, from what is kept.
  std::vector<float> run(CpuLevel level, int threads) {
    std::vector<float> all;
    for (auto& block : results.blocks) {
      std::memset(block.first.get(), 0xff, sizeof(float) * block.second);  // NaN
    }
    EdgeProblem first = p, second = p;
    first.sender2 = nullptr;
    EdgeOutputs computed = mean;
    EdgeGradients of_second = g;
    for (const bool keep : {false, true}) {
      if (keep) computed.states = states, computed.moments = moments;
      edges_forward_cpu(first, computed, threads, level);
      if (keep) {
        first.states = second.states = states, first.moments = moments;
        of_second.states = d_states;
      }
      edges_backward_cpu(first, computed, of_mean, g, threads, level);
      append(all);
      edges_forward_cpu(second, sampled, threads, level);
      edges_backward_cpu(second, sampled, of_sample, of_second, threads, level);
      append(all);
    }
    return all;
  }

  void append(std::vector<float>& all) const {
    for (const auto& block : results.blocks) {
      all.insert(all.end(), block.first.get(), block.first.get() + block.second);
    }
  }
};

int differences(const std::vector<float>& a, const std::vector<float>& b) {
  int wrong = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    const bool same = a[k] == b[k] || (std::isnan(a[k]) && std::isnan(b[k]));
    wrong += !same && !(std::fabs(a[k] - b[k]) <= 1e-4f * (1.0f + std::fabs(a[k])));
  }
  return wrong;
}

}  // namespace

int main() {
  int cases = 0, wrong = 0;
  for (const std::int64_t nodes : {2, 3, 11}) {
    for (const std::int64_t features : {0, 1, 17}) {
      for (const std::int64_t types : {2, 5}) {
        for (int flags = 0; flags < 8; ++flags) {
          Case c(nodes == 2 ? 50 : 3, nodes, 16 * (1 + flags % 3), features, types, flags);
          const std::vector<float> narrow = c.run(CpuLevel::kPortable, 1);
          wrong += differences(narrow, c.run(CpuLevel::kAvx512, 2));
          ++cases;
        }
      }
    }
  }
  std::printf("%d cases\n", cases);
  return wrong ? 1 : 0;
}
