// Prior and posterior of a store's pairs in vectors of pairs. Included once per instruction set, after
// CAUSALMMM_WIDTH and CAUSALMMM_LEVEL (the table to define) are set.
#pragma once

#include "common/series.h"
#include "posterior/posterior.h"

namespace causalmmm {
namespace {

constexpr float kLn2Inverse = 1.44269504f;

// exp(v), finite v of moderate size
CAUSALMMM_INLINE Floats exp_of(Floats v) {
  const Floats small = exp2_of_negative(magnitude(v) * -kLn2Inverse);
  return v > 0.0f ? 1.0f / small : small;
}

// The prototypes as every store of a run reads them.
struct Prototypes {
  const PriorProblem& p;
  std::int64_t pairs, lanes;
  float *odds;              // [P, lanes], bounded
  float *absent, *present;  // [P, lanes], log probabilities of no edge and of an edge
  float *counted;           // [lanes], 1 for pairs of different series
  float *learned;           // [lanes], 1 for pairs that no fixed prior decides
  float *factor;            // [lanes], of the present store
  float *log_weight;        // [P], log softmax of the mixture
  float *gain;              // [P]
  float *of_absent, *of_present;  // [lanes], gradients of the prior

  Prototypes(const PriorProblem& problem, Pieces& pieces)
      : p(problem), pairs(p.nodes * p.nodes), lanes(multiple(pairs, kWidth)) {
    odds = pieces.take(p.prototypes * lanes);
    absent = pieces.take(p.prototypes * lanes);
    present = pieces.take(p.prototypes * lanes);
    counted = pieces.take(lanes);
    learned = pieces.take(lanes);
    factor = pieces.take(lanes);
    log_weight = pieces.take(p.prototypes);
    gain = pieces.take(p.prototypes);
    of_absent = pieces.take(lanes);
    of_present = pieces.take(lanes);
    if (pieces.memory) arrange();
  }

  void arrange() {
    for (std::int64_t k = 0; k < p.prototypes; ++k) {
      for (std::int64_t c = 0; c < lanes; c += kWidth) {
        const Floats o = bounded(load(p.odds + k * pairs + c, lanes_left(pairs, c)), p.bound);
        store(odds + k * lanes + c, o, kWidth);
        store(absent + k * lanes + c, -softplus(o), kWidth);
        store(present + k * lanes + c, -softplus(-o), kWidth);
      }
      log_weight[k] = p.mixture[k];
    }
    log_softmax(log_weight);
    for (std::int64_t c = 0; c < pairs; ++c) {
      counted[c] = c / p.nodes != c % p.nodes ? 1.0f : 0.0f;
      const float* fixed = p.fixed_prior + 2 * c;
      learned[c] = __builtin_isinf(fixed[0]) || __builtin_isinf(fixed[1]) ? 0.0f : 1.0f;
    }
  }

  void log_softmax(float* values) const {
    float most = values[0], total = 0.0f;
    for (std::int64_t k = 1; k < p.prototypes; ++k) most = values[k] > most ? values[k] : most;
    for (std::int64_t k = 0; k < p.prototypes; ++k) total += __builtin_expf(values[k] - most);
    const float log = most + __builtin_logf(total);
    for (std::int64_t k = 0; k < p.prototypes; ++k) values[k] -= log;
  }

  void read(std::int64_t b) {
    for (std::int64_t c = 0; c < lanes; c += kWidth) {
      store(factor + c, load(p.factor + b * pairs + c, lanes_left(pairs, c)), kWidth);
    }
  }

  void forward(const PriorOutputs& o, std::int64_t b) {
    read(b);
    float* log_share = o.log_share + b * p.prototypes;
    for (std::int64_t k = 0; k < p.prototypes; ++k) {
      Floats total{};
      for (std::int64_t c = 0; c < lanes; c += kWidth) {
        const std::int64_t at = k * lanes + c;
        const Floats f = load(factor + c, kWidth), joint = softplus(load(odds + at, kWidth) + f);
        // less what is the same for all prototypes, which would drown their differences
        const Floats rest = joint - (f > 0.0f ? f : Floats{});
        total += load(counted + c, kWidth) * (rest + load(absent + at, kWidth));
      }
      log_share[k] = log_weight[k] + sum(total);
    }
    log_softmax(log_share);
    float kl = 0.0f;
    for (std::int64_t k = 0; k < p.prototypes; ++k) {
      gain[k] = __builtin_expf(log_share[k]);
      kl += gain[k] * (log_share[k] - log_weight[k]);
    }
    o.kl[b] = kl;
    for (std::int64_t c = 0; c < lanes; c += kWidth) {
      Floats none{}, edge{};
      for (std::int64_t k = 0; k < p.prototypes; ++k) {
        none += gain[k] * load(absent + k * lanes + c, kWidth);
        edge += gain[k] * load(present + k * lanes + c, kWidth);
      }
      for (int i = 0; i < lanes_left(pairs, c); ++i) {
        const float* fixed = p.fixed_prior + 2 * (c + i);
        float* out = o.log_prior + 2 * (b * pairs + c + i);
        const bool free = learned[c + i] != 0.0f;
        out[0] = free ? none[i] : fixed[0];
        out[1] = free ? edge[i] : fixed[1];
      }
    }
  }

  // Adds the gradients of a store to those of its run.
  void backward(const PriorOutputs& o, const PriorGradients& g, std::int64_t b, float* of_odds,
                float* of_mixture) {
    read(b);
    for (std::int64_t c = 0; c < pairs; ++c) {
      const float* in = g.log_prior ? g.log_prior + 2 * (b * pairs + c) : nullptr;
      of_absent[c] = in ? in[0] * learned[c] : 0.0f;
      of_present[c] = in ? in[1] * learned[c] : 0.0f;
    }
    const float* log_share = o.log_share + b * p.prototypes;
    const float of_kl = g.kl ? g.kl[b] : 0.0f;
    float total = 0.0f, mixed = 0.0f;
    for (std::int64_t k = 0; k < p.prototypes; ++k) {  // gain = the gradient of log r
      Floats slope{};
      for (std::int64_t c = 0; c < lanes; c += kWidth) {
        slope += load(of_absent + c, kWidth) * load(absent + k * lanes + c, kWidth) +
                 load(of_present + c, kWidth) * load(present + k * lanes + c, kWidth);
      }
      const float share = __builtin_expf(log_share[k]);
      gain[k] = share * (sum(slope) + of_kl * (log_share[k] - log_weight[k] + 1.0f));
      total += gain[k];
    }
    for (std::int64_t k = 0; k < p.prototypes; ++k) {
      const float share = __builtin_expf(log_share[k]), slope = gain[k] - share * total;
      const float of_log_weight = slope - of_kl * share;
      of_mixture[k] += of_log_weight;
      mixed += of_log_weight;
      for (std::int64_t c = 0; c < pairs; c += kWidth) {
        const int n = lanes_left(pairs, c);
        const std::int64_t at = k * lanes + c;
        const Floats log_odds = load(odds + at, kWidth), alone = sigmoid(log_odds);
        const Floats joint = sigmoid(log_odds + load(factor + c, kWidth));
        Floats grad = slope * load(counted + c, kWidth) * (joint - alone);
        grad += share * (load(of_present + c, kWidth) * (1.0f - alone) -
                         load(of_absent + c, kWidth) * alone);
        float* out = of_odds + k * pairs + c;
        const Floats size = magnitude(load(p.odds + k * pairs + c, n));
        store(out, load(out, n) + (size > p.bound ? Floats{} : grad), n);
      }
    }
    for (std::int64_t k = 0; k < p.prototypes; ++k) {
      of_mixture[k] -= __builtin_expf(log_weight[k]) * mixed;
    }
  }
};

std::int64_t prior_scratch(const PriorProblem& p) {
  Pieces pieces{nullptr};
  Prototypes prototypes(p, pieces);
  return pieces.used;
}

void prior_forward(const PriorProblem& p, const PriorOutputs& o, float* scratch, std::int64_t begin,
                   std::int64_t end) {
  Pieces pieces{scratch};
  Prototypes prototypes(p, pieces);
  for (std::int64_t b = begin; b < end; ++b) prototypes.forward(o, b);
}

void prior_backward(const PriorProblem& p, const PriorOutputs& o, const PriorGradients& g,
                    float* scratch, std::int64_t begin, std::int64_t end) {
  Pieces pieces{scratch};
  Prototypes prototypes(p, pieces);
  const std::int64_t run = begin / kPosteriorRun, size = p.prototypes * prototypes.pairs;
  float *odds = g.odds + run * size, *mixture = g.mixture + run * p.prototypes;
  for (std::int64_t k = 0; k < size; ++k) odds[k] = 0.0f;
  for (std::int64_t k = 0; k < p.prototypes; ++k) mixture[k] = 0.0f;
  for (std::int64_t b = begin; b < end; ++b) prototypes.backward(o, g, b, odds, mixture);
}

// --- effects ---------------------------------------------------------------------------------------

// kWidth pairs of a store from `c` on, of which n count.
struct Pairs {
  const EffectProblem& p;
  std::int64_t at;
  int n;
  Floats mean, log_sd, sd, probability, between;

  Pairs(const EffectProblem& problem, std::int64_t b, std::int64_t c) : p(problem) {
    const std::int64_t pairs = p.nodes * p.nodes;
    at = b * pairs + c;
    n = lanes_left(pairs, c);
    mean = load(p.mean + at, n);
    log_sd = load(p.log_sd + at, n);
    sd = exp_of(log_sd);
    Floats odds{};
    between = Floats{};
    for (int i = 0; i < n; ++i) {
      odds[i] = p.logits[2 * (at + i) + 1] - p.logits[2 * (at + i)];
      between[i] = (c + i) / p.nodes != (c + i) % p.nodes ? 1.0f : 0.0f;
    }
    probability = sigmoid(odds);
  }

  Floats divergence() const {
    const Floats scaled = mean / p.prior_sd, ratio = sd / p.prior_sd;
    return 0.5f * (ratio * ratio + scaled * scaled - 1.0f) - log_sd +
           __builtin_logf(p.prior_sd);
  }
};

void effects_forward(const EffectProblem& p, const EffectOutputs& o, std::int64_t begin,
                     std::int64_t end) {
  for (std::int64_t b = begin; b < end; ++b) {
    Floats total{};
    for (std::int64_t c = 0; c < p.nodes * p.nodes; c += kWidth) {
      const Pairs pairs(p, b, c);
      store(o.effect + pairs.at, pairs.mean + pairs.sd * load(p.noise + pairs.at, pairs.n), pairs.n);
      total += pairs.between * pairs.probability * pairs.divergence();
    }
    o.kl[b] = sum(total);
  }
}

void effects_backward(const EffectProblem& p, const EffectGradients& g, std::int64_t begin,
                      std::int64_t end) {
  const float precision = 1.0f / (p.prior_sd * p.prior_sd);
  for (std::int64_t b = begin; b < end; ++b) {
    for (std::int64_t c = 0; c < p.nodes * p.nodes; c += kWidth) {
      const Pairs pairs(p, b, c);
      const Floats of_kl = pairs.between * (g.kl ? g.kl[b] : 0.0f);
      const Floats of_effect = g.effect ? load(g.effect + pairs.at, pairs.n) : Floats{};
      const Floats weight = of_kl * pairs.probability;
      store(g.mean + pairs.at, of_effect + weight * pairs.mean * precision, pairs.n);
      const Floats variance = pairs.sd * pairs.sd * precision;
      store(g.log_sd + pairs.at,
            of_effect * pairs.sd * load(p.noise + pairs.at, pairs.n) + weight * (variance - 1.0f),
            pairs.n);
      const Floats slope = weight * (1.0f - pairs.probability) * pairs.divergence();
      for (int i = 0; i < pairs.n; ++i) {
        g.logits[2 * (pairs.at + i)] = -slope[i];
        g.logits[2 * (pairs.at + i) + 1] = slope[i];
      }
    }
  }
}

}  // namespace

const PosteriorKernels PosteriorKernels::CAUSALMMM_LEVEL = {
    causalmmm::prior_scratch, causalmmm::prior_forward, causalmmm::prior_backward,
    causalmmm::effects_forward, causalmmm::effects_backward};

}  // namespace causalmmm
