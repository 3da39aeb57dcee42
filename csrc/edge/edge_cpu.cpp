// CPU entry points of the edge operators: argument checks, instruction set, threads, sums over parts.
#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "edge/edge_kernels.h"

namespace causalmmm {
namespace {

// A part of the stores has its own sums of weight gradients. How many parts there are depends on the
// sizes alone: enough for many threads, few enough for the memory of the sums. Values are edges times
// width.
constexpr std::int64_t kValuesPerPart = 1 << 16;
constexpr std::int64_t kFewParts = 16, kManyParts = 64, kValuesForMany = 1 << 20;

struct Parts {
  std::int64_t stores, count;

  explicit Parts(const EdgeProblem& p) : stores(p.stores) {
    const std::int64_t values = p.stores * p.nodes * (p.nodes - 1) * p.width;
    const std::int64_t most = std::clamp(values / kValuesForMany, kFewParts, kManyParts);
    count = std::clamp<std::int64_t>(values / kValuesPerPart, 1, std::min(most, p.stores));
  }
  std::int64_t begin(std::int64_t part) const { return stores * part / count; }
};

// One block of floats, handed out in pieces that each start on a cache line.
class Arena {
 public:
  Arena(std::size_t floats, std::size_t pieces)
      : memory_(new float[floats + (pieces + 1) * kLine]) {
    const auto start = reinterpret_cast<std::uintptr_t>(memory_.get());
    next_ = memory_.get() + (kLine - start / sizeof(float) % kLine) % kLine;
  }
  float* take(std::int64_t floats) {
    float* piece = next_;
    next_ += (floats + kLine - 1) / kLine * kLine;
    return piece;
  }

 private:
  static constexpr std::size_t kLine = 64 / sizeof(float);
  std::unique_ptr<float[]> memory_;
  float* next_;
};

// A tile with its memory.
class TileMemory {
 public:
  explicit TileMemory(const EdgeProblem& p)
      : arena_(kTile * (6 * p.width + p.features + padded(p.features) + padded(p.types)), 9) {
    for (float** rows : {&tile.inner1, &tile.state1, &tile.inner2, &tile.state2, &tile.grad,
                         &tile.d_inner}) {
      *rows = arena_.take(kTile * p.width);
    }
    tile.features = arena_.take(kTile * p.features);
    tile.d_features = arena_.take(kTile * padded(p.features));
    tile.logits = arena_.take(kTile * padded(p.types));
  }
  Tile tile;

 private:
  Arena arena_;
};

// Calls work(part, tile) for all parts, in any order.
template <class Work>
void each_part(const EdgeProblem& p, const Parts& parts, int threads, Work work) {
  const int workers = static_cast<int>(std::clamp<std::int64_t>(threads, 1, parts.count));
  std::vector<std::unique_ptr<TileMemory>> memory;  // of each thread
  for (int k = 0; k < workers; ++k) memory.push_back(std::make_unique<TileMemory>(p));
#ifdef _OPENMP
  if (workers > 1) {
#pragma omp parallel for num_threads(workers) schedule(dynamic, 1)
    for (std::int64_t part = 0; part < parts.count; ++part) {
      work(part, memory[static_cast<std::size_t>(omp_get_thread_num())]->tile);
    }
    return;
  }
#endif
  for (std::int64_t part = 0; part < parts.count; ++part) work(part, memory[0]->tile);
}

// The weights in the layouts of EdgeWeights.
class Layouts {
 public:
  explicit Layouts(const EdgeProblem& p)
      : arena_(3 * p.width * p.width + p.width * (p.features + padded(p.features) + padded(p.types)),
              6) {
    weights.w2t = transposed(p.w2, p.width, p.width, p.width);
    if (p.features) {
      weights.wft = transposed(p.wf, p.width, p.features, p.width);
      const std::int64_t pad = padded(p.features);
      float* wide = arena_.take(p.width * pad);
      std::fill_n(wide, p.width * pad, 0.0f);
      for (std::int64_t h = 0; h < p.width; ++h) {
        std::copy_n(p.wf + h * p.features, p.features, wide + h * pad);
      }
      weights.wf = wide;
    }
    if (p.sender2) {
      weights.w3t = transposed(p.w3, p.width, p.width, p.width);
      weights.w4t = transposed(p.w4, p.width, p.width, p.width);
      weights.wot = transposed(p.wo, p.types, p.width, padded(p.types));
    }
  }
  EdgeWeights weights{};

 private:
  // [rows, columns] to [columns, rows], with rows of `pad`
  const float* transposed(const float* w, std::int64_t rows, std::int64_t columns, std::int64_t pad) {
    float* to = arena_.take(columns * pad);
    std::fill_n(to, columns * pad, 0.0f);
    for (std::int64_t c = 0; c < columns; ++c) {
      for (std::int64_t r = 0; r < rows; ++r) to[c * pad + r] = w[r * columns + c];
    }
    return to;
  }
  Arena arena_;
};

// A weight's gradient: its total, and where its partial sums are.
struct Sum {
  float* total;  // null: not computed
  float* EdgeSums::*part;
  std::int64_t size;
};

}  // namespace

const char* check(const EdgeProblem& p) {
  if (p.stores < 1) return "at least one store is needed";
  if (p.nodes < 2 || p.nodes > 65536) return "between 2 and 65536 nodes are needed";
  if (p.width < kEdgeWidthStep || p.width % kEdgeWidthStep) {
    return "the width must be a multiple of 16";
  }
  if (!p.sender1 || !p.receiver1 || !p.w2 || !p.b2) {
    return "an argument of the first pass is missing";
  }
  if ((p.features > 0) != (p.edge_features && p.wf)) return "features and wf go together";
  if (p.moments && !p.states) return "moments go with states";
  if (!p.sender2) {
    return p.states && !p.moments ? "states go with moments in the first pass" : nullptr;
  }
  if (p.types < 2 || p.types > kMaxEdgeTypes) return "between 2 and 16 edge types are needed";
  if (!p.receiver2 || !p.w3 || !p.w4 || !p.b4 || !p.wo || !p.bo || !p.log_prior) {
    return "an argument of the second pass is missing";
  }
  if (p.noisy && !p.store_ids) return "noise needs store ids";
  return nullptr;
}

void edges_forward_cpu(const EdgeProblem& p, const EdgeOutputs& outputs, int threads,
                       CpuLevel level) {
  const EdgeKernels& kernels = kernels_for<EdgeKernels>(level);
  const Layouts layouts(p);
  const Parts parts(p);
  each_part(p, parts, threads, [&](std::int64_t part, Tile& tile) {
    kernels.forward(p, layouts.weights, outputs, tile, parts.begin(part), parts.begin(part + 1));
  });
}

void edges_backward_cpu(const EdgeProblem& p, const EdgeOutputs& outputs,
                        const EdgeOutputGradients& output_gradients, const EdgeGradients& g,
                        int threads, CpuLevel level) {
  const std::int64_t square = p.width * p.width;
  const bool both = p.sender2;
  const bool first = !(both && p.states);
  const Sum sums[] = {{first ? g.w2 : nullptr, &EdgeSums::w2, square},
                      {first ? g.b2 : nullptr, &EdgeSums::b2, p.width},
                      {first && p.features ? g.wf : nullptr, &EdgeSums::wf, p.features * p.width},
                      {both ? g.w3 : nullptr, &EdgeSums::w3, square},
                      {both ? g.w4 : nullptr, &EdgeSums::w4, square},
                      {both ? g.b4 : nullptr, &EdgeSums::b4, p.width},
                      {both ? g.wo : nullptr, &EdgeSums::wo, p.types * p.width},
                      {both ? g.bo : nullptr, &EdgeSums::bo, p.types}};
  for (const Sum& sum : sums) {
    if (sum.total) std::fill_n(sum.total, sum.size, 0.0f);
  }
  const EdgeKernels& kernels = kernels_for<EdgeKernels>(level);
  const Layouts layouts(p);
  const Parts parts(p);
  std::int64_t size = 0;
  for (const Sum& sum : sums) size += sum.total ? sum.size : 0;
  Arena arena(parts.count * size, parts.count * std::size(sums));
  std::vector<EdgeSums> partial_sums(parts.count);
  for (EdgeSums& part : partial_sums) {
    for (const Sum& sum : sums) part.*sum.part = sum.total ? arena.take(sum.size) : nullptr;
  }
  each_part(p, parts, threads, [&](std::int64_t part, Tile& tile) {
    for (const Sum& sum : sums) {
      if (sum.total) std::fill_n(partial_sums[part].*sum.part, sum.size, 0.0f);
    }
    kernels.backward(p, layouts.weights, outputs, output_gradients, g, partial_sums[part], tile,
                     parts.begin(part), parts.begin(part + 1));
  });
  for (const Sum& sum : sums) {
    for (std::int64_t part = 0; part < (sum.total ? parts.count : 0); ++part) {
      const float* from = partial_sums[part].*sum.part;
      for (std::int64_t k = 0; k < sum.size; ++k) sum.total[k] += from[k];
    }
  }
}

}  // namespace causalmmm
