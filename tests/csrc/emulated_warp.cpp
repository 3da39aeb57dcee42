// Runs the CUDA kernels on the CPU, lane by lane: 32 fibers share a warp's shuffles. Shows that their
// arithmetic, their masks and their addresses are right; nothing is learned of speed or real hardware.
// Compares with the plain loops. Prints the number of cases; exits 1 on a difference.
#include <cuda_bf16.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <functional>

#include "cases.h"

#undef __global__
#undef __device__
#undef __launch_bounds__
#undef __forceinline__
#undef __grid_constant__
#define __global__
#define __device__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __grid_constant__

struct Index {
  unsigned x;
};
Index threadIdx, blockIdx;

namespace warp {

constexpr int kSize = 32;
std::array<ucontext_t, kSize> lanes;
std::array<std::vector<char>, kSize> stacks;
std::array<bool, kSize> done;
std::array<std::array<float, kSize>, 2> slots;  // of this shuffle and of the one before
std::array<int, kSize> turn;
ucontext_t scheduler;
int current;
std::function<void()> body;

// Every lane leaves its value and waits until all have.
float exchange(float value, int source) {
  const int lane = current, parity = turn[lane]++ % 2;
  slots[parity][lane] = value;
  swapcontext(&lanes[lane], &scheduler);
  return slots[parity][source];
}

void start() {
  body();
  done[current] = true;
  swapcontext(&lanes[current], &scheduler);
}

void run(unsigned block, unsigned warp_in_block, std::function<void()> kernel) {
  body = std::move(kernel);
  done.fill(false);
  turn.fill(0);
  for (int i = 0; i < kSize; ++i) {
    stacks[i].resize(1 << 17);
    getcontext(&lanes[i]);
    lanes[i].uc_stack.ss_sp = stacks[i].data();
    lanes[i].uc_stack.ss_size = stacks[i].size();
    makecontext(&lanes[i], start, 0);
  }
  while (!std::all_of(done.begin(), done.end(), [](bool d) { return d; })) {
    for (current = 0; current < kSize; ++current) {
      if (done[current]) continue;
      threadIdx.x = warp_in_block * kSize + current;
      blockIdx.x = block;
      swapcontext(&scheduler, &lanes[current]);
    }
  }
}

int lane() { return current; }

}  // namespace warp

float __shfl_sync(unsigned, float v, int source) { return warp::exchange(v, source); }
float __shfl_up_sync(unsigned, float v, int distance) {
  const int lane = warp::lane();
  return warp::exchange(v, lane >= distance ? lane - distance : lane);
}
float __shfl_down_sync(unsigned, float v, int distance) {
  const int lane = warp::lane();
  return warp::exchange(v, lane + distance < warp::kSize ? lane + distance : lane);
}
float __shfl_xor_sync(unsigned, float v, int mask) {
  return warp::exchange(v, warp::lane() ^ mask);
}
void __syncwarp() { warp::exchange(0, 0); }
float __fdividef(float a, float b) { return a / b; }
float __log2f(float v) { return std::log2(v); }
float __uint_as_float(std::uint32_t bits) {
  float v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
using std::max;
using std::min;

#include "response/response_kernels.cuh"

namespace {

using namespace causalmmm::cuda;

template <class X, bool kMoving, int kChunks>
void run_kernels(Case& c) {
  const auto rows = static_cast<std::uint32_t>(c.outer * c.inner);
  const auto groups = static_cast<std::uint32_t>(c.shared ? c.outer : rows);
  std::vector<float> workspace(rows * ((c.steps - 1) / kCudaSegment));
  const Shared shared = shared_gradients(c.p, c.g);
  for (std::uint32_t block = 0; block * kWarps < rows; ++block) {
    for (unsigned w = 0; w < kWarps; ++w) {
      warp::run(block, w, [&] { adstock_hill_fwd_kernel<X, kMoving>(c.p, c.o, rows); });
      warp::run(block, w, [&] {
        adstock_hill_bwd_kernel<X, kMoving, kChunks>(c.p, c.g, shared, workspace.data(), groups,
                                                     rows / groups);
      });
    }
  }
}

// As response_cuda.cu chooses.
template <class X>
void run_on_warps(Case& c) {
  constexpr int kLong = kCudaSegment / kChunk<X>;
  const bool moving = c.moving_decay || c.moving_curve;
  if (c.steps <= kChunk<X>) {
    moving ? run_kernels<X, true, 1>(c) : run_kernels<X, false, 1>(c);
  } else if (!moving && c.steps > kCudaSegment && c.steps <= 2 * kCudaSegment) {
    run_kernels<X, false, 2 * kLong>(c);
  } else {
    moving ? run_kernels<X, true, kLong>(c) : run_kernels<X, false, kLong>(c);
  }
}

}  // namespace

int main() {
  int cases = 0, wrong = 0;
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16}) {
    for (const std::int64_t steps : {1, 3, 4, 8, 31, 100, 128, 129, 256, 300, 511, 512, 513, 700,
                                     1024, 1025, 1600}) {
      for (int flags = 0; flags < 8; ++flags) {
        Case c(dtype, steps, flags & 1, flags & 2, flags & 4, 2);
        c.run(RowKernels::kScalar);
        const std::vector<double> expected = c.values();
        c.poison();
        dtype == Dtype::kFloat32 ? run_on_warps<float>(c) : run_on_warps<__nv_bfloat16>(c);
        wrong += differences(c, expected);
        ++cases;
      }
    }
  }
  std::printf("%d cases\n", cases);
  return wrong ? 1 : 0;
}
