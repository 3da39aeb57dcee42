// Small problems for the response core, in buffers of exactly the size they need, and their results.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "response/row_kernels.h"

using namespace causalmmm;

namespace {

unsigned state = 1;
float random_float() {
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) / 16777216.0f;
}

std::size_t bytes_of(Dtype dtype) {
  return dtype == Dtype::kFloat64 ? 8 : dtype == Dtype::kBfloat16 ? 2 : 4;
}

// One buffer per operand, freed with the case; of the type `dtype`.
struct Memory {
  std::vector<std::unique_ptr<char[]>> blocks;

  Operand make(Dtype dtype, std::int64_t count, float low, float high) {
    const std::size_t size = bytes_of(dtype);
    blocks.emplace_back(new char[count * size]);
    char* p = blocks.back().get();
    for (std::int64_t i = 0; i < count; ++i) {
      const float v = random_float() < 0.2f ? 0.0f : low + (high - low) * random_float();
      const double wide = v;
      std::uint32_t bits;
      std::memcpy(&bits, &v, 4);
      const std::uint16_t half = static_cast<std::uint16_t>(bits >> 16);
      std::memcpy(p + i * size, size == 8 ? static_cast<const void*>(&wide)
                                : size == 4 ? static_cast<const void*>(&v) : &half, size);
    }
    Operand o;
    o.data = p;
    return o;
  }
};

double value(Dtype dtype, const Operand& o, std::int64_t i) {
  if (dtype == Dtype::kFloat64) return static_cast<double*>(o.data)[i];
  if (dtype == Dtype::kFloat32) return static_cast<float*>(o.data)[i];
  const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<std::uint16_t*>(o.data)[i]) << 16;
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}

struct Case {
  Dtype dtype, wide;
  std::int64_t outer, inner, steps;
  bool moving_decay, moving_curve, shared;
  Memory memory;
  Problem p;
  Outputs o;
  Gradients g;
  struct Result {
    Operand operand;
    std::int64_t count;
    Dtype dtype;
  };
  std::vector<Result> results;

  Operand param(bool per_inner, bool moving, float low, float high) {
    const std::int64_t rows = per_inner ? inner : outer, width = moving ? steps : 1;
    Operand v = memory.make(wide, rows * width, low, high);
    for (std::int64_t i = 0; i < rows * width; ++i) {  // parameters are never zero
      if (wide == Dtype::kFloat64) {
        double& e = static_cast<double*>(v.data)[i];
        e = e == 0 ? low : e;
      } else {
        float& e = static_cast<float*>(v.data)[i];
        e = e == 0 ? low : e;
      }
    }
    v.stride[per_inner ? 1 : 0] = width;
    v.step = moving;
    return v;
  }

  Operand result(Dtype type, std::int64_t rows_stride0, std::int64_t rows_stride1,
                 std::int64_t count) {
    Operand v = memory.make(type, count, 0, 0);
    v.stride[0] = rows_stride0;
    v.stride[1] = rows_stride1;
    results.push_back({v, count, type});
    return v;
  }

  Case(Dtype d, std::int64_t t, bool md, bool mc, bool share, std::int64_t rows)
      : dtype(d),
        wide(d == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32),
        outer(rows), inner(3), steps(t), moving_decay(md), moving_curve(mc), shared(share) {
    p.dtype = dtype;
    p.axes = 2;
    p.size[0] = outer;
    p.size[1] = inner;
    p.steps = steps;
    p.x = memory.make(dtype, outer * steps, -0.3f, 2.0f);
    p.x.stride[0] = steps;
    p.x.step = 1;
    p.decay = param(true, moving_decay, 0.05f, 0.95f);
    p.slope = param(false, moving_curve, 0.8f, 3.0f);
    p.half_saturation = param(false, moving_curve, 0.3f, 2.0f);
    p.initial = memory.make(wide, outer * inner, 0.0f, 1.0f);
    p.initial.stride[0] = inner;
    p.initial.stride[1] = 1;

    const std::int64_t all = outer * inner;
    o.response = result(dtype, inner * steps, steps, all * steps);
    o.response.step = 1;
    o.final = result(wide, inner, 1, all);
    g.shared_axes = shared ? 1 : 0;
    g.response = memory.make(dtype, all * steps, -1.0f, 1.0f);
    g.response.stride[0] = inner * steps;
    g.response.stride[1] = steps;
    g.final = memory.make(wide, all, -1.0f, 1.0f);
    g.final.stride[0] = inner;
    g.final.stride[1] = 1;
    g.x = shared ? result(wide, steps, 0, outer * steps)
                 : result(dtype, inner * steps, steps, all * steps);
    const std::int64_t dw = moving_decay ? steps : 1, cw = moving_curve ? steps : 1;
    g.decay = result(wide, inner * dw, dw, all * dw);
    const bool one = shared && moving_curve;
    g.slope = one ? result(wide, steps, 0, outer * steps) : result(wide, inner * cw, cw, all * cw);
    g.half_saturation =
        one ? result(wide, steps, 0, outer * steps) : result(wide, inner * cw, cw, all * cw);
    g.initial = result(wide, inner, 1, all);
  }

  void run(const RowKernels& kernels) {
    const std::size_t size = wide == Dtype::kFloat64 ? 8 : 4;
    std::unique_ptr<char[]> scratch(new char[size * (steps + 2 * kScratchMargin)]);
    kernels.forward(p, o, 0, outer * inner);
    kernels.backward(p, g, 0, shared ? outer : outer * inner, scratch.get());
  }

  std::vector<double> values() const {
    std::vector<double> all;
    for (const Result& r : results) {
      for (std::int64_t i = 0; i < r.count; ++i) all.push_back(value(r.dtype, r.operand, i));
    }
    return all;
  }

  // Makes every result a NaN: what nobody writes afterwards stays wrong.
  void poison() {
    for (const Result& r : results) {
      std::memset(r.operand.data, 0xff, r.count * bytes_of(r.dtype));
    }
  }
};

// Counts the values that differ, and prints the first.
inline int differences(const Case& c, const std::vector<double>& expected) {
  const double tolerance = c.dtype == Dtype::kBfloat16 ? 2e-2 : 2e-4;
  const std::vector<double> computed = c.values();
  int wrong = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::fabs(computed[i] - expected[i]) <= tolerance * (1 + std::fabs(expected[i]))) continue;
    if (wrong++ == 0) {
      std::printf("dtype %d, %d steps, moving %d %d, shared %d, value %d: %g instead of %g\n",
                  static_cast<int>(c.dtype), static_cast<int>(c.steps), c.moving_decay,
                  c.moving_curve, c.shared, static_cast<int>(i), computed[i], expected[i]);
    }
  }
  return wrong;
}

}  // namespace
