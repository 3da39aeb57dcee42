// CPU entry points: what is wrong with the arguments, which instruction set, how many threads.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "response/row_kernels.h"

namespace causalmmm {
namespace {

// Below this many elements per thread another thread costs more than it saves.
constexpr std::int64_t kElementsPerThread = 1 << 15;

const RowKernels& rows_for(const Problem& problem, CpuLevel level) {
  return problem.dtype == Dtype::kFloat64 ? RowKernels::kScalar : kernels_for<RowKernels>(level);
}

// Splits [0, count) into contiguous parts, one per thread: work(part, begin, end).
template <class Work>
void in_parallel(std::int64_t count, int parts, Work work) {
#ifdef _OPENMP
  if (parts > 1) {
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; ++part) {
      work(part, count * part / parts, count * (part + 1) / parts);
    }
    return;
  }
#endif
  for (int part = 0; part < parts; ++part) {
    work(part, count * part / parts, count * (part + 1) / parts);
  }
}

int parts_for(std::int64_t pieces, std::int64_t elements, int threads) {
  const std::int64_t useful = std::min(pieces, elements / kElementsPerThread + 1);
  return static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(useful, threads)));
}

constexpr std::size_t kCacheLine = 64;

std::size_t aligned(std::size_t bytes) { return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine; }

bool steps_in_time(const Operand& operand) { return operand.step == 0 || operand.step == 1; }

bool in_one_place(const Problem& p, const Gradients& g, const Operand& operand) {
  for (int k = p.axes - g.shared_axes; k < p.axes; ++k) {
    if (p.size[k] > 1 && operand.stride[k] != 0) return false;
  }
  return true;
}

}  // namespace

std::int64_t span(const Problem& p, int first, int end) {
  std::int64_t rows = 1;
  for (int k = first; k < end; ++k) rows *= p.size[k];
  return rows;
}

Shared shared_gradients(const Problem& p, const Gradients& g) {
  return {in_one_place(p, g, g.x), in_one_place(p, g, g.decay), in_one_place(p, g, g.slope),
          in_one_place(p, g, g.half_saturation)};
}

const char* check(const Problem& p) {
  if (p.axes < 0 || p.axes > kMaxAxes) return "too many leading axes";
  for (int k = 0; k < p.axes; ++k) {
    if (p.size[k] < 0) return "a leading axis has a negative size";
  }
  if (p.steps < 1) return "x needs at least one time step";
  if (span(p, 0, p.axes) == 0) return nullptr;
  if (!p.x.data) return "x is missing";
  if (p.x.step != 1) return "x must be contiguous in time";
  if (!p.decay.data) return "decay is missing";
  if (!p.slope.data) return "slope is missing";
  if (!p.half_saturation.data) return "half_saturation is missing";
  if (!steps_in_time(p.decay)) return "decay must be constant or contiguous in time";
  if (!steps_in_time(p.slope)) return "slope must be constant or contiguous in time";
  if (!steps_in_time(p.half_saturation)) {
    return "half_saturation must be constant or contiguous in time";
  }
  return nullptr;
}

const char* check(const Problem& p, const Gradients& g) {
  if (const char* wrong = check(p)) return wrong;
  if (g.shared_axes < 0 || g.shared_axes > p.axes) return "shared_axes is out of range";
  if (span(p, 0, p.axes) == 0) return nullptr;
  if (!g.response.data) return "the gradient of the response is missing";
  if (!g.final.data) return "the gradient of the final stock is missing";
  return nullptr;
}

void forward_cpu(const Problem& problem, const Outputs& outputs, int threads, CpuLevel level) {
  const RowKernels& kernels = rows_for(problem, level);
  const std::int64_t rows = span(problem, 0, problem.axes);
  if (rows == 0) return;
  in_parallel(rows, parts_for(rows, rows * problem.steps, threads),
              [&](int, std::int64_t begin, std::int64_t end) {
                kernels.forward(problem, outputs, begin, end);
              });
}

void backward_cpu(const Problem& problem, const Gradients& gradients, int threads, CpuLevel level) {
  const RowKernels& kernels = rows_for(problem, level);
  const std::int64_t rows = span(problem, 0, problem.axes);
  const std::int64_t groups = span(problem, 0, problem.axes - gradients.shared_axes);
  if (rows == 0) return;
  const int parts = parts_for(groups, rows * problem.steps, threads);
  const std::size_t value = problem.dtype == Dtype::kFloat64 ? sizeof(double) : sizeof(float);
  const std::size_t bytes =
      aligned(value * (static_cast<std::size_t>(problem.steps) + 2 * kScratchMargin));
  std::vector<char> scratch(parts * bytes + kCacheLine);
  char* base = reinterpret_cast<char*>(aligned(reinterpret_cast<std::uintptr_t>(scratch.data())));
  in_parallel(groups, parts, [&](int part, std::int64_t begin, std::int64_t end) {
    kernels.backward(problem, gradients, begin, end, base + part * bytes);
  });
}

}  // namespace causalmmm
