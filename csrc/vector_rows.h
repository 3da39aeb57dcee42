// One row in vectors along time: a prefix scan carries the stock across the lanes of a vector, one
// multiply-add carries it from vector to vector. Included once per instruction set, after
// CAUSALMMM_WIDTH and CAUSALMMM_ROWS (the name of the table to define) are set.
//
// The last vector of a row may be partial: loads fill it up with zeros and stores leave the rest
// alone. It runs through the same code, in which the number of lanes is then a variable.
#pragma once

#include "row_kernels.h"
#include "vector.h"

namespace causalmmm {
namespace {

constexpr float kTiny = 1.17549435e-38f;  // smallest normal number
constexpr float kLn2 = 0.693147181f;

// The start of the last vector of a row; it holds 1 to kWidth steps.
CAUSALMMM_INLINE std::int64_t last_start(std::int64_t steps) {
  return (steps - 1) / kWidth * kWidth;
}

// Slope and half-saturation of one vector; where they are constant, of the whole row.
struct Curve {
  Floats slope, per_half;  // per_half = 1 / half_saturation, used by the gradient only
  Log2 half;
};

template <bool kMoving>
struct CurveOf;

template <>
struct CurveOf<false> {
  Curve curve;

  template <class X>
  explicit CurveOf(const Row<X, float>& row) {
    const double half = *row.half_saturation;
    const double log = __builtin_log2(half);  // NaN or infinite where half is not positive
    const double whole = __builtin_floor(log);
    curve = {splat(*row.slope), splat(static_cast<float>(1.0 / half)),
             {splat(static_cast<float>(whole)), splat(static_cast<float>(log - whole))}};
  }

  template <class X>
  CAUSALMMM_INLINE const Curve& at(const Row<X, float>&, std::int64_t, int) const {
    return curve;
  }
};

template <>
struct CurveOf<true> {
  template <class X>
  explicit CurveOf(const Row<X, float>&) {}

  template <class X>
  CAUSALMMM_INLINE Curve at(const Row<X, float>& row, std::int64_t t, int n) const {
    const Floats slope = row.slope_step ? load(row.slope + t, n) : splat(*row.slope);
    const Floats half = row.half_saturation_step ? load(row.half_saturation + t, n, 1.0f)
                                                 : splat(*row.half_saturation);
    Log2 log = log2_of(half);
    log.part = half > 0.0f ? log.part : splat(__builtin_nanf(""));
    return {slope, 1.0f / half, log};
  }
};

struct Saturation {
  Floats log2_ratio;  // log2(|a| / half_saturation)
  Floats e;           // 2^-|slope * log2_ratio|
  Floats r;           // 1 / (1 + e)
  Ints above;         // slope * log2_ratio >= 0
  Ints absent;        // a counts as zero
};

CAUSALMMM_INLINE Saturation saturate(Floats a, const Curve& curve) {
  const Floats size = magnitude(a);
  const Log2 log = log2_of(size);
  Saturation s;
  s.absent = size < kTiny;
  s.log2_ratio = (log.whole - curve.half.whole) + (log.part - curve.half.part);
  const Floats u = curve.slope * s.log2_ratio;
  s.above = u >= 0.0f;
  s.e = exp2_of_negative(-magnitude(u));
  s.r = 1.0f / (1.0f + s.e);
  return s;
}

CAUSALMMM_INLINE Floats response_of(const Saturation& s, Floats a) {
  const Floats size = s.above ? s.r : s.e * s.r;
  return s.absent ? Floats{} : with_sign_of(size, a);
}

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

CAUSALMMM_INLINE bool is_finite(float v) { return v - v == 0.0f; }

template <class X, bool kMovingDecay, bool kMovingCurve>
bool forward_row(const Row<X, float>& row, const RowOutputs<X, float>& out) {
  Recurrence<kMovingDecay> recurrence(row.decay, row.initial);
  const CurveOf<kMovingCurve> curves(row);
  const auto visit = [&](std::int64_t t, int n) CAUSALMMM_INLINE_LAMBDA {
    const Floats a = recurrence.stock(load(row.x + t, n), row.decay + t, n);
    store(out.response + t, response_of(saturate(a, curves.at(row, t, n)), a), n);
    return a;
  };
  const std::int64_t last = last_start(row.steps);
  for (std::int64_t t = 0; t < last; t += kWidth) visit(t, kWidth);
  const int n = static_cast<int>(row.steps - last);
  *out.final = lane(visit(last, n), n - 1);
  return is_finite(*out.final);
}

CAUSALMMM_INLINE void put(float* to, std::int64_t t, Floats v, int n, bool add) {
  if (to) store(to + t, add ? v + load(to + t, n) : v, n);
}

CAUSALMMM_INLINE void put(float* to, float v) {
  if (to) *to = v;
}

template <class X, bool kMovingDecay, bool kMovingCurve>
bool backward_row(const Row<X, float>& row, const RowGradients<X, float>& g, float* stock) {
  const std::int64_t last = last_start(row.steps);
  const int n_last = static_cast<int>(row.steps - last);

  Recurrence<kMovingDecay> forward(row.decay, row.initial);
  stock[-1] = row.initial;
  const auto recompute = [&](std::int64_t t, int n) CAUSALMMM_INLINE_LAMBDA {
    store(stock + t, forward.stock(load(row.x + t, n), row.decay + t, n), kWidth);
  };
  for (std::int64_t t = 0; t < last; t += kWidth) recompute(t, kWidth);
  recompute(last, n_last);
  if (!is_finite(stock[row.steps - 1])) return false;

  Recurrence<kMovingDecay> recurrence(row.decay, 0.0f);
  const CurveOf<kMovingCurve> curves(row);
  Floats decay_total = {}, slope_total = {}, half_total = {};
  // `outside`: what reaches these stocks other than through their responses or later steps.
  const auto visit = [&](std::int64_t t, int n, int n_next, Floats outside) CAUSALMMM_INLINE_LAMBDA {
    const Floats a = load(stock + t, kWidth);
    const Curve& curve = curves.at(row, t, n);
    const Saturation s = saturate(a, curve);
    // e r^2 = |s| (1 - |s|); nothing flows where the stock counts as zero
    const Floats by_logit = s.absent ? Floats{} : load(g.response + t, n) * (s.e * s.r * s.r);
    const Floats by_signed_logit = flip_where_negative(by_logit, a);
    const Floats by_slope = by_signed_logit * (s.log2_ratio * kLn2);
    const Floats by_half = -by_signed_logit * curve.slope * curve.per_half;
    const Floats own = s.absent ? Floats{} : by_logit * curve.slope * (1.0f / magnitude(a));

    const Floats flow = recurrence.gradient(own + outside, row.decay + t, n, n_next);
    const Floats by_decay = flow * (load(stock + t - 1, kWidth) - load(row.x + t, n));
    const Floats by_x = recurrence.rest * flow;
    if (g.x) store(g.x + t, by_x, n);
    put(g.x_total, t, by_x, n, g.add_x);
    if (kMovingDecay) put(g.decay, t, by_decay, n, g.add_decay);
    if (kMovingCurve && row.slope_step) put(g.slope, t, by_slope, n, g.add_slope);
    if (kMovingCurve && row.half_saturation_step) {
      put(g.half_saturation, t, by_half, n, g.add_half_saturation);
    }
    decay_total += by_decay;
    slope_total += by_slope;
    half_total += by_half;
    return flow;
  };
  Floats flow = visit(last, n_last, n_last - 1, at_lane(n_last - 1, g.final));
  for (std::int64_t t = last - kWidth; t >= 0; t -= kWidth) {
    flow = visit(t, kWidth, kWidth, Floats{});
  }
  if (!kMovingDecay) put(g.decay, sum(decay_total));
  if (!row.slope_step) put(g.slope, sum(slope_total));
  if (!row.half_saturation_step) put(g.half_saturation, sum(half_total));
  put(g.initial, *row.decay * flow[0]);
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

const RowKernels CAUSALMMM_ROWS = {forward, backward};

}  // namespace causalmmm
