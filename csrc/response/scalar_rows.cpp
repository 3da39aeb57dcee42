// Rows with plain loops and the C library's functions: the float64 path, and the way out for rows
// with infinite or missing values, at which the vector code does not look.
#include <cmath>
#include <cstring>
#include <limits>

#include "response/row_kernels.h"

namespace causalmmm {
namespace {

double read(const double* p) { return *p; }
float read(const float* p) { return *p; }
float read(const Bfloat16* p) {
  const std::uint32_t bits = static_cast<std::uint32_t>(p->bits) << 16;
  float v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

void write(double* p, double v) { *p = v; }
void write(float* p, float v) { *p = v; }
void write(Bfloat16* p, float v) {
  std::uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  p->bits = static_cast<std::uint16_t>(v == v ? rounded : (bits >> 16) | 0x40u);
}

template <class Real>
struct Saturation {
  Real response = 0;   // s
  Real log_ratio = 0;  // ln(|a| / half_saturation)
  Real density = 0;    // |s| (1 - |s|), derivative of |s| by slope * log_ratio
  Real sign = 0;
  Real per_stock = 0;  // 1 / |a|

  Saturation(Real a, Real slope, Real half_saturation) {
    const Real size = std::fabs(a);
    if (size < std::numeric_limits<Real>::min()) return;
    log_ratio = std::log(size) - std::log(half_saturation);
    const Real logit = slope * log_ratio;
    const Real e = std::exp(-std::fabs(logit));
    const Real r = 1 / (1 + e);
    sign = std::copysign(Real(1), a);
    response = sign * (logit < 0 ? e * r : r);
    density = e * r * r;
    per_stock = 1 / size;
  }
};

template <class X, class Real>
bool forward_row(const Row<X, Real>& row, const RowOutputs<X, Real>& out) {
  Real a = row.initial;
  for (std::int64_t t = 0; t < row.steps; ++t) {
    const Real decay = row.decay[t * row.decay_step];
    a = decay * a + (1 - decay) * read(row.x + t);
    const Saturation<Real> s(a, row.slope[t * row.slope_step],
                             row.half_saturation[t * row.half_saturation_step]);
    write(out.response + t, s.response);
  }
  *out.final = a;
  return true;
}

template <class Real>
void put(Real* to, std::int64_t t, Real value, bool add) {
  if (to) to[t] = add ? to[t] + value : value;
}

template <class X, class Real>
bool backward_row(const Row<X, Real>& row, const RowGradients<X, Real>& g, Real* stock) {
  stock[-1] = row.initial;
  for (std::int64_t t = 0; t < row.steps; ++t) {
    const Real decay = row.decay[t * row.decay_step];
    stock[t] = decay * stock[t - 1] + (1 - decay) * read(row.x + t);
  }
  Real decay_total = 0, slope_total = 0, half_saturation_total = 0;
  Real flow = g.final;  // gradient that reaches a_t from later steps
  for (std::int64_t t = row.steps - 1; t >= 0; --t) {
    const Real decay = row.decay[t * row.decay_step];
    const Real slope = row.slope[t * row.slope_step];
    const Real half = row.half_saturation[t * row.half_saturation_step];
    const Saturation<Real> s(stock[t], slope, half);
    const Real by_logit = read(g.response + t) * s.density;
    flow += by_logit * slope * s.per_stock;
    const Real by_decay = flow * (stock[t - 1] - read(row.x + t));
    const Real by_slope = by_logit * s.sign * s.log_ratio;
    const Real by_half = -by_logit * s.sign * slope / half;
    if (row.decay_step) put(g.decay, t, by_decay, g.add_decay);
    if (row.slope_step) put(g.slope, t, by_slope, g.add_slope);
    if (row.half_saturation_step) put(g.half_saturation, t, by_half, g.add_half_saturation);
    decay_total += by_decay;
    slope_total += by_slope;
    half_saturation_total += by_half;
    const Real by_x = (1 - decay) * flow;
    if (g.x) write(g.x + t, by_x);
    put(g.x_total, t, by_x, g.add_x);
    flow *= decay;
  }
  if (!row.decay_step) put(g.decay, 0, decay_total, false);
  if (!row.slope_step) put(g.slope, 0, slope_total, false);
  if (!row.half_saturation_step) put(g.half_saturation, 0, half_saturation_total, false);
  put(g.initial, 0, flow, false);
  return true;
}

template <class X, class Real>
void forward_as(const Problem& p, const Outputs& o, std::int64_t begin, std::int64_t end) {
  each_row<X, Real>(p, o, begin, end, [](const Row<X, Real>& row, const RowOutputs<X, Real>& out) {
    return forward_row(row, out);
  });
}

template <class X, class Real>
void backward_as(const Problem& p, const Gradients& g, std::int64_t begin, std::int64_t end,
                 void* scratch) {
  Real* stock = static_cast<Real*>(scratch) + kScratchMargin;
  each_group<X, Real>(p, g, begin, end, scratch,
                      [=](const Row<X, Real>& row, const RowGradients<X, Real>& gradients) {
                        return backward_row(row, gradients, stock);
                      });
}

void forward(const Problem& p, const Outputs& o, std::int64_t begin, std::int64_t end) {
  switch (p.dtype) {
    case Dtype::kFloat64: return forward_as<double, double>(p, o, begin, end);
    case Dtype::kFloat32: return forward_as<float, float>(p, o, begin, end);
    case Dtype::kBfloat16: return forward_as<Bfloat16, float>(p, o, begin, end);
  }
}

void backward(const Problem& p, const Gradients& g, std::int64_t begin, std::int64_t end,
              void* scratch) {
  switch (p.dtype) {
    case Dtype::kFloat64: return backward_as<double, double>(p, g, begin, end, scratch);
    case Dtype::kFloat32: return backward_as<float, float>(p, g, begin, end, scratch);
    case Dtype::kBfloat16: return backward_as<Bfloat16, float>(p, g, begin, end, scratch);
  }
}

}  // namespace

const RowKernels RowKernels::kScalar = {causalmmm::forward, causalmmm::backward};

}  // namespace causalmmm
