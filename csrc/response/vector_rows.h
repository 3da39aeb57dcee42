// One row in vectors along time: a prefix scan carries the stock across the lanes of a vector, one
// multiply-add carries it from vector to vector. Included once per instruction set, after
// CAUSALMMM_WIDTH and CAUSALMMM_LEVEL (the table to define) are set.
//
// A row is worked on in blocks, and a block in several short passes through a buffer: scan, logarithm,
// exponential. In one long pass each vector would wait for a chain of some 120 cycles, and only three
// vectors fit into a processor's window; a short pass keeps more of them under way.
//
// The last vector of a row may be partial: loads fill it up with zeros and stores leave the rest
// alone. It runs through the same code, in which the number of lanes is then a variable.
#pragma once

#include "response/row_kernels.h"
#include "common/vector.h"

namespace causalmmm {
namespace {

constexpr float kTiny = 1.17549435e-38f;  // smallest normal number
constexpr float kLn2 = 0.693147181f;

constexpr int kBlock = 256;  // steps; a multiple of every width, and small enough for the first cache

// Calls visit(i, n) for the vectors of m steps: n lanes from step i on.
template <class Visit>
CAUSALMMM_INLINE void each_vector(int m, Visit visit) {
  int i = 0;
  for (; i + kWidth <= m; i += kWidth) visit(i, kWidth);
  if (i < m) visit(i, m - i);
}

template <class Visit>
CAUSALMMM_INLINE void each_vector_backward(int m, Visit visit) {
  int i = m / kWidth * kWidth;
  if (i < m) visit(i, m - i);
  for (i -= kWidth; i >= 0; i -= kWidth) visit(i, kWidth);
}

CAUSALMMM_INLINE int steps_in_block(std::int64_t steps, std::int64_t t) {
  return steps - t < kBlock ? static_cast<int>(steps - t) : kBlock;
}

// Not a number where half-saturation is not positive: log2_of() does not look at signs.
CAUSALMMM_INLINE Log2 log2_of_half(Floats half) {
  const Log2 log = log2_of(half);
  return {log.whole, half > 0.0f ? log.part : splat(__builtin_nanf(""))};
}

// Slope and half-saturation at n steps from t on.
template <bool kMoving>
struct Curve;

template <>
struct Curve<false> {
  Floats row_slope, row_per_half;
  Log2 row_log2_half;

  template <class X>
  explicit Curve(const Row<X, float>& row)
      : row_slope(splat(*row.slope)),
        row_per_half(1.0f / splat(*row.half_saturation)),
        row_log2_half(log2_of_half(splat(*row.half_saturation))) {}

  CAUSALMMM_INLINE Floats slope(std::int64_t, int) const { return row_slope; }
  CAUSALMMM_INLINE Floats per_half(std::int64_t, int) const { return row_per_half; }
  CAUSALMMM_INLINE Log2 log2_half(std::int64_t, int) const { return row_log2_half; }
};

template <>
struct Curve<true> {
  const float *slope_at, *half_at;
  std::int64_t slope_step, half_step;

  template <class X>
  explicit Curve(const Row<X, float>& row)
      : slope_at(row.slope),
        half_at(row.half_saturation),
        slope_step(row.slope_step),
        half_step(row.half_saturation_step) {}

  CAUSALMMM_INLINE Floats slope(std::int64_t t, int n) const {
    return slope_step ? load(slope_at + t, n) : splat(*slope_at);
  }
  CAUSALMMM_INLINE Floats half(std::int64_t t, int n) const {
    return half_step ? load(half_at + t, n, 1.0f) : splat(*half_at);
  }
  CAUSALMMM_INLINE Floats per_half(std::int64_t t, int n) const { return 1.0f / half(t, n); }
  CAUSALMMM_INLINE Log2 log2_half(std::int64_t t, int n) const { return log2_of_half(half(t, n)); }
};

// log2(|a| / half_saturation). A stock that counts as zero gives a number so low that the exponential
// is exactly zero, yet finite, so that zero times it is zero.
CAUSALMMM_INLINE Floats log2_ratio(Floats a, const Log2& half) {
  const Floats size = magnitude(a);
  const Log2 log = log2_of(size);
  const Floats ratio = (log.whole - half.whole) + (log.part - half.part);
  return size < kTiny ? splat(-1e30f) : ratio;
}

// Of u = slope * log2_ratio: e = 2^-|u| and r = 1 / (1 + e), so that |s| is r or e r, and its
// derivative by ln 2 u is e r^2, without cancellation.
struct Logistic {
  Floats e, r;

  CAUSALMMM_INLINE explicit Logistic(Floats u)
      : e(exp2_of_negative(-magnitude(u))), r(1.0f / (1.0f + e)) {}
};

// --- the recurrence across the lanes ---------------------------------------------------------------

// v_i <- v_i + q v_{i-1} + q^2 v_{i-2} + ..., the distance doubling from K.
template <int K = 1>
CAUSALMMM_INLINE Floats scan_later(Floats v, Floats q) {
  if constexpr (K < kWidth) {
    return scan_later<2 * K>(v + later<K>(v) * q, q * q);
  } else {
    return v;
  }
}

template <int K = 1>
CAUSALMMM_INLINE Floats scan_earlier(Floats v, Floats q) {
  if constexpr (K < kWidth) {
    return scan_earlier<2 * K>(v + earlier<K>(v) * q, q * q);
  } else {
    return v;
  }
}

// The same with a factor per lane; on return `gate` is the product of all factors up to the lane.
template <int K = 1>
CAUSALMMM_INLINE Floats scan_later_moving(Floats v, Floats* gate) {
  if constexpr (K < kWidth) {
    v = v + later<K>(v) * *gate;
    *gate = *gate * later<K>(*gate, splat(1.0f));
    return scan_later_moving<2 * K>(v, gate);
  } else {
    return v;
  }
}

template <int... I>
CAUSALMMM_INLINE Floats reversed(Floats v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, v, (kWidth - 1 - I)...);
}

CAUSALMMM_INLINE Floats reversed(Floats v) { return reversed(v, Lanes{}); }

// Carries stocks forward, and gradients g_t = own_t + decay_{t+1} g_{t+1} backward, through a row.
// What passes from vector to vector is kept apart from the lanes: that chain is one multiply-add long.
template <bool kMoving>
struct Recurrence;

template <>
struct Recurrence<false> {
  Floats decay, rest, powers, whole;  // powers: decay^1 .. decay^W; whole: decay^W
  Floats carried;

  Recurrence(const float* p, float initial)
      : decay(splat(*p)), rest(splat(1.0f - *p)), carried(splat(initial)) {
    Floats first = {};
    first[0] = 1.0f;
    powers = scan_later(first, decay) * decay;
    whole = splat(powers[kWidth - 1]);
  }

  CAUSALMMM_INLINE Floats stock(Floats x, const float*, int) {
    const Floats own = scan_later(rest * x, decay);
    const Floats a = own + powers * carried;
    carried = splat(own[kWidth - 1]) + whole * carried;
    return a;
  }

  CAUSALMMM_INLINE Floats gradient(Floats own, const float*, int, int) {
    own = scan_earlier(own, decay);
    const Floats g = own + reversed(powers) * carried;
    carried = splat(own[0]) + whole * carried;
    return g;
  }
};

template <>
struct Recurrence<true> {
  Floats rest, carried;

  Recurrence(const float*, float initial) : carried(splat(initial)) {}

  // `p` points to the decays of the vector, of which n exist.
  CAUSALMMM_INLINE Floats stock(Floats x, const float* p, int n) {
    Floats gate = load(p, n);
    const Floats own = scan_later_moving((1.0f - gate) * x, &gate);
    const Floats a = own + gate * carried;
    carried = splat(own[kWidth - 1]) + splat(gate[kWidth - 1]) * carried;
    return a;
  }

  // One step later, n_next of them exist.
  CAUSALMMM_INLINE Floats gradient(Floats own, const float* p, int n, int n_next) {
    rest = 1.0f - load(p, n);
    Floats gate = reversed(load(p + 1, n_next));
    own = scan_later_moving(reversed(own), &gate);
    const Floats g = own + gate * carried;
    carried = splat(own[kWidth - 1]) + splat(gate[kWidth - 1]) * carried;
    return reversed(g);
  }
};

// --- rows ------------------------------------------------------------------------------------------

typedef float Buffer[kBlock] __attribute__((aligned(64)));

CAUSALMMM_INLINE bool is_finite(float v) { return v - v == 0.0f; }

template <class X, bool kMovingDecay, bool kMovingCurve>
bool forward_row(const Row<X, float>& row, const RowOutputs<X, float>& out) {
  Recurrence<kMovingDecay> recurrence(row.decay, row.initial);
  const Curve<kMovingCurve> curve(row);
  Buffer stock, logit;
  float final = 0.0f;
  for (std::int64_t t = 0; t < row.steps; t += kBlock) {
    const int m = steps_in_block(row.steps, t);
    each_vector(m, [&](int i, int n) CAUSALMMM_INLINE_LAMBDA {
      store(stock + i, recurrence.stock(load(row.x + t + i, n), row.decay + t + i, n), kWidth);
    });
    each_vector(m, [&](int i, int n) CAUSALMMM_INLINE_LAMBDA {
      const Floats ratio = log2_ratio(load(stock + i, kWidth), curve.log2_half(t + i, n));
      store(logit + i, curve.slope(t + i, n) * ratio, kWidth);
    });
    each_vector(m, [&](int i, int n) CAUSALMMM_INLINE_LAMBDA {
      const Floats u = load(logit + i, kWidth);
      const Logistic s(u);
      const Floats size = s.r * (u < 0.0f ? s.e : splat(1.0f));
      store(out.response + t + i, with_sign_of(size, load(stock + i, kWidth)), n);
    });
    final = stock[m - 1];
  }
  *out.final = final;
  return is_finite(final);
}

CAUSALMMM_INLINE void put(float* to, std::int64_t t, Floats v, int n, bool add) {
  if (to) store(to + t, add ? v + load(to + t, n) : v, n);
}

CAUSALMMM_INLINE void put(float* to, float v) {
  if (to) *to = v;
}

template <class X, bool kMovingDecay, bool kMovingCurve>
bool backward_row(const Row<X, float>& row, const RowGradients<X, float>& g, float* stock) {
  Recurrence<kMovingDecay> forward(row.decay, row.initial);
  stock[-1] = row.initial;
  for (std::int64_t t = 0; t < row.steps; t += kBlock) {
    each_vector(steps_in_block(row.steps, t), [&](int i, int n) CAUSALMMM_INLINE_LAMBDA {
      const Floats a = forward.stock(load(row.x + t + i, n), row.decay + t + i, n);
      store(stock + t + i, a, kWidth);
    });
  }
  if (!is_finite(stock[row.steps - 1])) return false;

  Recurrence<kMovingDecay> recurrence(row.decay, 0.0f);
  const Curve<kMovingCurve> curve(row);
  Floats decay_total = {}, slope_total = {}, half_total = {};
  Buffer ratio, own;
  for (std::int64_t t = (row.steps - 1) / kBlock * kBlock; t >= 0; t -= kBlock) {
    const int m = steps_in_block(row.steps, t);
    each_vector(m, [&](int i, int n) CAUSALMMM_INLINE_LAMBDA {
      const Floats a = load(stock + t + i, kWidth);
      store(ratio + i, log2_ratio(a, curve.log2_half(t + i, n)), kWidth);
    });
    // what reaches each stock through its own response
    each_vector(m, [&](int i, int n) CAUSALMMM_INLINE_LAMBDA {
      const Floats a = load(stock + t + i, kWidth), log = load(ratio + i, kWidth);
      const Floats slope = curve.slope(t + i, n);
      const Logistic s(slope * log);
      const Floats by_logit = load(g.response + t + i, n) * (s.e * s.r * s.r);
      const Floats by_signed_logit = flip_where_negative(by_logit, a);
      const Floats by_slope = by_signed_logit * (log * kLn2);
      const Floats by_half = -by_signed_logit * slope * curve.per_half(t + i, n);
      store(own + i, by_logit * slope / at_least(magnitude(a), kTiny), kWidth);
      slope_total += by_slope;
      half_total += by_half;
      if (kMovingCurve && row.slope_step) put(g.slope, t + i, by_slope, n, g.add_slope);
      if (kMovingCurve && row.half_saturation_step) {
        put(g.half_saturation, t + i, by_half, n, g.add_half_saturation);
      }
    });
    if (t + m == row.steps) own[m - 1] += g.final;
    each_vector_backward(m, [&](int i, int n) CAUSALMMM_INLINE_LAMBDA {
      const std::int64_t at = t + i;
      const int n_next = row.steps - at > kWidth ? kWidth : static_cast<int>(row.steps - at) - 1;
      const Floats flow = recurrence.gradient(load(own + i, kWidth), row.decay + at, n, n_next);
      const Floats by_decay = flow * (load(stock + at - 1, kWidth) - load(row.x + at, n));
      const Floats by_x = recurrence.rest * flow;
      if (g.x) store(g.x + at, by_x, n);
      put(g.x_total, at, by_x, n, g.add_x);
      if (kMovingDecay) put(g.decay, at, by_decay, n, g.add_decay);
      decay_total += by_decay;
      if (at == 0) put(g.initial, *row.decay * flow[0]);
    });
  }
  if (!kMovingDecay) put(g.decay, sum(decay_total));
  if (!row.slope_step) put(g.slope, sum(slope_total));
  if (!row.half_saturation_step) put(g.half_saturation, sum(half_total));
  return true;
}

template <class X, bool kMovingDecay, bool kMovingCurve>
void forward_as(const Problem& p, const Outputs& o, std::int64_t begin, std::int64_t end) {
  each_row<X, float>(p, o, begin, end, forward_row<X, kMovingDecay, kMovingCurve>);
}

template <class X, bool kMovingDecay, bool kMovingCurve>
void backward_as(const Problem& p, const Gradients& g, std::int64_t begin, std::int64_t end,
                 void* scratch) {
  float* stock = static_cast<float*>(scratch) + kScratchMargin;
  each_group<X, float>(p, g, begin, end, scratch,
                       [=](const Row<X, float>& row, const RowGradients<X, float>& gradients) {
                         return backward_row<X, kMovingDecay, kMovingCurve>(row, gradients, stock);
                       });
}

CAUSALMMM_INLINE int variant(const Problem& p) {
  const bool curve = p.slope.step != 0 || p.half_saturation.step != 0;
  return (p.dtype == Dtype::kBfloat16 ? 4 : 0) + (p.decay.step != 0 ? 2 : 0) + (curve ? 1 : 0);
}

void forward(const Problem& p, const Outputs& o, std::int64_t begin, std::int64_t end) {
  static constexpr decltype(&forward) kVariants[] = {
      forward_as<float, false, false>,    forward_as<float, false, true>,
      forward_as<float, true, false>,     forward_as<float, true, true>,
      forward_as<Bfloat16, false, false>, forward_as<Bfloat16, false, true>,
      forward_as<Bfloat16, true, false>,  forward_as<Bfloat16, true, true>};
  kVariants[variant(p)](p, o, begin, end);
}

void backward(const Problem& p, const Gradients& g, std::int64_t begin, std::int64_t end,
              void* scratch) {
  static constexpr decltype(&backward) kVariants[] = {
      backward_as<float, false, false>,    backward_as<float, false, true>,
      backward_as<float, true, false>,     backward_as<float, true, true>,
      backward_as<Bfloat16, false, false>, backward_as<Bfloat16, false, true>,
      backward_as<Bfloat16, true, false>,  backward_as<Bfloat16, true, true>};
  kVariants[variant(p)](p, g, begin, end, scratch);
}

}  // namespace

const RowKernels RowKernels::CAUSALMMM_LEVEL = {causalmmm::forward, causalmmm::backward};

}  // namespace causalmmm
