// What every instruction set provides: forward and backward over a range of rows, on one thread.
// Also the loops over rows, shared by all of them.
#pragma once

#include "common/bfloat16.h"
#include "response/response.h"

namespace causalmmm {

// Floats that an instruction set may write before and behind a row of scratch.
constexpr int kScratchMargin = 16;

struct RowKernels {
  // Rows [begin, end) in the order of the leading axes.
  void (*forward)(const Problem&, const Outputs&, std::int64_t begin, std::int64_t end);
  // Groups [begin, end). `scratch` holds steps + 2 * kScratchMargin values of the accumulation type.
  void (*backward)(const Problem&, const Gradients&, std::int64_t begin, std::int64_t end,
                   void* scratch);
  static const RowKernels kScalar;  // all types; plain loops over the C library's functions
  static const RowKernels kPortable, kAvx2, kAvx512;  // float32 and bfloat16
};

// Everything below is compiled once per instruction set and therefore local to each.
namespace {

// Position in the leading axes.
struct Position {
  const Problem& problem;
  std::int64_t index[kMaxAxes] = {};

  Position(const Problem& p, std::int64_t start) : problem(p) {
    for (int k = p.axes - 1; k >= 0; --k) {
      index[k] = start % p.size[k];
      start /= p.size[k];
    }
  }

  void next() {
    for (int k = problem.axes - 1; k >= 0; --k) {
      if (++index[k] < problem.size[k]) return;
      index[k] = 0;
    }
  }

  template <class T>
  T* at(const Operand& operand) const {
    std::int64_t offset = 0;
    for (int k = 0; k < problem.axes; ++k) offset += index[k] * operand.stride[k];
    return operand.data ? static_cast<T*>(operand.data) + offset : nullptr;
  }
};

// A row's operands. X is the type of x and the response, Real the accumulation type.
template <class X, class Real>
struct Row {
  std::int64_t steps;
  const X* x;
  const Real *decay, *slope, *half_saturation;
  std::int64_t decay_step, slope_step, half_saturation_step;
  Real initial;

  Row(const Problem& p, const Position& at)
      : steps(p.steps),
        x(at.at<const X>(p.x)),
        decay(at.at<const Real>(p.decay)),
        slope(at.at<const Real>(p.slope)),
        half_saturation(at.at<const Real>(p.half_saturation)),
        decay_step(p.decay.step),
        slope_step(p.slope.step),
        half_saturation_step(p.half_saturation.step),
        initial(p.initial.data ? *at.at<const Real>(p.initial) : Real(0)) {}
};

template <class X, class Real>
struct RowOutputs {
  X* response;
  Real* final;

  RowOutputs(const Outputs& o, const Position& at)
      : response(at.at<X>(o.response)), final(at.at<Real>(o.final)) {}
};

// A row's incoming and outgoing gradients. `add_*`: an earlier row of the group has written there.
template <class X, class Real>
struct RowGradients {
  const X* response;
  Real final;
  X* x;           // if every row has an element of its own
  Real* x_total;  // if the rows of a group add to the same one
  Real *decay, *slope, *half_saturation, *initial;
  bool add_x, add_decay, add_slope, add_half_saturation;

  RowGradients(const Gradients& g, const Position& at, const Shared& shared, bool first)
      : response(at.at<const X>(g.response)),
        final(*at.at<const Real>(g.final)),
        x(g.shared_axes ? nullptr : at.at<X>(g.x)),
        x_total(g.shared_axes ? at.at<Real>(g.x) : nullptr),
        decay(at.at<Real>(g.decay)),
        slope(at.at<Real>(g.slope)),
        half_saturation(at.at<Real>(g.half_saturation)),
        initial(at.at<Real>(g.initial)),
        add_x(!first && shared.x),
        add_decay(!first && shared.decay),
        add_slope(!first && shared.slope),
        add_half_saturation(!first && shared.half_saturation) {}
};

// Subnormal numbers count as zero inside the kernels: they are as slow as they are meaningless here.
// Restores the thread's mode when it leaves.
class FlushSubnormals {
 public:
#if defined(__x86_64__)
  FlushSubnormals() : saved_(__builtin_ia32_stmxcsr()) {
    __builtin_ia32_ldmxcsr(saved_ | 0x8040u);  // flush results, read subnormals as zero
  }
  ~FlushSubnormals() { __builtin_ia32_ldmxcsr(saved_); }

 private:
  unsigned saved_;
#else
  FlushSubnormals() {}
#endif
  FlushSubnormals(const FlushSubnormals&) = delete;
};

// Calls one(row, outputs) for rows [begin, end). It returns whether the row's stock stayed finite;
// if not, the scalar code does the row again.
template <class X, class Real, class One>
void each_row(const Problem& p, const Outputs& o, std::int64_t begin, std::int64_t end, One one) {
  FlushSubnormals mode;
  Position at(p, begin);
  for (std::int64_t r = begin; r < end; ++r, at.next()) {
    if (!one(Row<X, Real>(p, at), RowOutputs<X, Real>(o, at))) {
      RowKernels::kScalar.forward(p, o, r, r + 1);
    }
  }
}

// The same for groups, with one(row, gradients).
template <class X, class Real, class One>
void each_group(const Problem& p, const Gradients& g, std::int64_t begin, std::int64_t end,
                void* scratch, One one) {
  FlushSubnormals mode;
  const std::int64_t rows = span(p, p.axes - g.shared_axes, p.axes);
  const Shared shared = shared_gradients(p, g);
  Position at(p, begin * rows);
  for (std::int64_t group = begin; group < end; ++group) {
    bool finite = true;
    for (std::int64_t r = 0; r < rows; ++r, at.next()) {
      finite &= one(Row<X, Real>(p, at), RowGradients<X, Real>(g, at, shared, r == 0));
    }
    if (!finite) RowKernels::kScalar.backward(p, g, group, group + 1, scratch);
  }
}

}  // namespace
}  // namespace causalmmm
