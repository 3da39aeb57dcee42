// From the network's logits to posterior, sample and divergence, and back: a vector lane per edge.
// Included once per instruction set, after CAUSALMMM_WIDTH is set.
#pragma once

#include "edge/edge_kernels.h"
#include "common/vector.h"

namespace causalmmm {
namespace {

typedef std::uint64_t Products __attribute__((vector_size(8 * CAUSALMMM_WIDTH)));

constexpr float kLog2E = 1.44269504f;
constexpr float kInfinity = __builtin_inff();

CAUSALMMM_INLINE Floats natural_log(Floats v) {
  const Log2 log = log2_of(v);
  return (log.whole + log.part) * 0.693147181f;
}

// Philox4x32-10 (Salmon et al. 2011): see kernels/edge/philox.py for what goes in.
CAUSALMMM_INLINE void philox(Bits (&c)[4], std::uint64_t seed) {
  std::uint32_t low = static_cast<std::uint32_t>(seed), high = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, low += 0x9e3779b9u, high += 0xbb67ae85u) {
    const Products first = __builtin_convertvector(c[0], Products) * 0xd2511f53ull;
    const Products second = __builtin_convertvector(c[2], Products) * 0xcd9e8d57ull;
    c[0] = __builtin_convertvector(second >> 32, Bits) ^ c[1] ^ low;
    c[1] = __builtin_convertvector(second, Bits);
    c[2] = __builtin_convertvector(first >> 32, Bits) ^ c[3] ^ high;
    c[3] = __builtin_convertvector(first, Bits);
  }
}

// kWidth edges of a tile from row `first` on. Lanes beyond `lanes` repeat the last edge.
struct Edges {
  const EdgeProblem& problem;
  const Tile& tile;
  int first, lanes;

  CAUSALMMM_INLINE int row(int lane) const { return first + (lane < lanes ? lane : lanes - 1); }

  // values[row] for all lanes
  template <class Where>
  CAUSALMMM_INLINE Floats gather(const float* values, Where where) const {
    Floats v = {};
    for (int lane = 0; lane < kWidth; ++lane) v[lane] = values[where(row(lane))];
    return v;
  }

  CAUSALMMM_INLINE Floats of_pair(const float* values, int type) const {
    return gather(values, [&](int t) { return tile.pair[t] * problem.types + type; });
  }

  CAUSALMMM_INLINE Floats prior(int type) const {
    const std::int64_t pairs = problem.nodes * problem.nodes;
    const bool per_store = problem.prior_per_store;
    return gather(problem.log_prior, [&](int t) {
      return (per_store ? tile.pair[t] : tile.pair[t] % pairs) * problem.types + type;
    });
  }

  CAUSALMMM_INLINE void put(float* values, int type, Floats v) const {
    for (int lane = 0; lane < lanes; ++lane) {
      values[tile.pair[first + lane] * problem.types + type] = v[lane];
    }
  }

  // logits + Gumbel noise, over the temperature
  CAUSALMMM_INLINE void noisy_logits(const Floats* logits, Floats* out) const {
    const std::int64_t pairs = problem.nodes * problem.nodes;
    Bits low = {}, high = {}, pair = {};
    for (int lane = 0; lane < kWidth; ++lane) {
      const std::int64_t edge = tile.pair[row(lane)], within = edge % pairs;
      const std::uint64_t id = static_cast<std::uint64_t>(problem.store_ids[edge / pairs]);
      low[lane] = static_cast<std::uint32_t>(id);
      high[lane] = static_cast<std::uint32_t>(id >> 32);
      pair[lane] = static_cast<std::uint32_t>((within / problem.nodes << 16) + within % problem.nodes);
    }
    Bits words[4] = {};
    for (int k = 0; k < problem.types; ++k) {
      if (k % 4 == 0) {
        words[0] = low, words[1] = high, words[2] = pair;
        words[3] = Bits{} + static_cast<std::uint32_t>(k / 4);
        philox(words, problem.seed);
      }
      const Floats uniform =
          (__builtin_convertvector((Ints)(words[k % 4] >> 9), Floats) + 0.5f) * 1.1920928955078125e-7f;
      out[k] = (logits[k] - natural_log(-natural_log(uniform))) / problem.temperature;
    }
  }
};

// softmax of `x`; returns the logarithm of the sum of exponentials of x - max, and that max.
struct Softmax {
  Floats max, log_total;

  CAUSALMMM_INLINE Softmax(const Floats* x, Floats* out, std::int64_t types) : max(x[0]) {
    for (int k = 1; k < types; ++k) max = x[k] > max ? x[k] : max;
    Floats total = {};
    for (int k = 0; k < types; ++k) {
      out[k] = exp2_of_negative((x[k] - max) * kLog2E);
      total += out[k];
    }
    for (int k = 0; k < types; ++k) out[k] /= total;
    log_total = natural_log(total);
  }
};

CAUSALMMM_INLINE void one_hot_of_largest(Floats* z, std::int64_t types) {
  Floats max = z[0];
  for (int k = 1; k < types; ++k) max = z[k] > max ? z[k] : max;
  Ints free = Ints{} - 1;
  for (int k = 0; k < types; ++k) {
    const Ints chosen = (z[k] == max) & free;
    free &= ~chosen;
    z[k] = (Floats)(chosen & (Ints)splat(1.0f));
  }
}

// From tile.logits to z and the posterior's logits; divergences are added to kl[store - first_store].
void sample_tile(const EdgeProblem& p, const Tile& tile, const EdgeOutputs& out, double* kl,
                   std::int64_t first_store) {
  const std::int64_t pad = padded(p.types), pairs = p.nodes * p.nodes;
  for (int t = 0; t < tile.rows; t += kWidth) {
    const Edges edges{p, tile, t, tile.rows - t < kWidth ? tile.rows - t : kWidth};
    Floats logits[kMaxEdgeTypes] = {}, prior[kMaxEdgeTypes], q[kMaxEdgeTypes], z[kMaxEdgeTypes];
    for (int k = 0; k < p.types; ++k) {
      prior[k] = edges.prior(k);
      const Floats net_logit = edges.gather(tile.logits, [&](int row) { return row * pad + k; });
      logits[k] = prior[k] > -kInfinity ? net_logit + p.bo[k] + prior[k] : splat(-kInfinity);
    }
    const Softmax posterior(logits, q, p.types);
    Floats divergence = {};
    for (int k = 0; k < p.types; ++k) {
      const Floats log_q = logits[k] - posterior.max - posterior.log_total;
      divergence += prior[k] > -kInfinity ? q[k] * (log_q - prior[k]) : Floats{};
      z[k] = q[k];
    }
    if (p.noisy) {
      Floats noisy[kMaxEdgeTypes];
      edges.noisy_logits(logits, noisy);
      Softmax(noisy, z, p.types);
    }
    if (p.hard) one_hot_of_largest(z, p.types);
    for (int k = 0; k < p.types; ++k) {
      edges.put(out.z, k, z[k]);
      edges.put(out.logits, k, logits[k]);
    }
    for (int lane = 0; lane < edges.lanes; ++lane) {
      kl[tile.pair[t + lane] / pairs - first_store] += static_cast<double>(divergence[lane]);
    }
  }
}

// Gradient of the logits into tile.logits and, unless d_prior is null, that of the prior.
void sample_tile_backward(const EdgeProblem& p, Tile& tile, const EdgeOutputs& out,
                          const EdgeOutputGradients& d_out, float* d_prior) {
  const std::int64_t pad = padded(p.types), pairs = p.nodes * p.nodes;
  for (int t = 0; t < tile.rows; t += kWidth) {
    const Edges edges{p, tile, t, tile.rows - t < kWidth ? tile.rows - t : kWidth};
    Floats logits[kMaxEdgeTypes] = {}, q[kMaxEdgeTypes], z[kMaxEdgeTypes];
    Floats log_ratio[kMaxEdgeTypes], d_z[kMaxEdgeTypes];
    for (int k = 0; k < p.types; ++k) logits[k] = edges.of_pair(out.logits, k);
    const Softmax posterior(logits, q, p.types);
    if (!p.hard) {
      for (int k = 0; k < p.types; ++k) z[k] = edges.of_pair(out.z, k);
    } else if (p.noisy) {  // the gradient is that of the soft sample, which was not kept
      Floats noisy[kMaxEdgeTypes];
      edges.noisy_logits(logits, noisy);
      Softmax(noisy, z, p.types);
    } else {
      for (int k = 0; k < p.types; ++k) z[k] = q[k];
    }
    Floats mean_d_z = {}, mean_log_ratio = {}, d_kl = {};
    for (int k = 0; k < p.types; ++k) {
      d_z[k] = d_out.z ? edges.of_pair(d_out.z, k) : Floats{};
      mean_d_z += z[k] * d_z[k];
      const Floats log_q = logits[k] - posterior.max - posterior.log_total;
      log_ratio[k] = logits[k] > -kInfinity ? log_q - edges.prior(k) : Floats{};
      mean_log_ratio += q[k] * log_ratio[k];
    }
    if (d_out.kl) d_kl = edges.gather(d_out.kl, [&](int row) { return tile.pair[row] / pairs; });
    for (int k = 0; k < p.types; ++k) {
      Floats d_logit = z[k] * (d_z[k] - mean_d_z);
      if (p.noisy) d_logit /= p.temperature;
      if (d_out.logits) d_logit += edges.of_pair(d_out.logits, k);
      d_logit += q[k] * d_kl * (log_ratio[k] - mean_log_ratio);
      d_logit = logits[k] > -kInfinity ? d_logit : Floats{};
      for (int lane = 0; lane < edges.lanes; ++lane) {
        tile.logits[(t + lane) * pad + k] = d_logit[lane];
      }
      if (d_prior) edges.put(d_prior, k, d_logit - q[k] * d_kl);
    }
  }
}

}  // namespace
}  // namespace causalmmm
