// CUDA kernels of the response operator: one warp processes a row in chunks of 32 lanes x 16 bytes. A
// prefix scan over the lanes carries the stock through a chunk, a register carries it to the next; no
// shared memory, no barrier between warps, no atomics, so every run gives the same bits.
//
// Included by response_cuda.cu, which launches them, and by a test that runs them on the CPU.
#pragma once

#include "response/response_warp.cuh"

namespace causalmmm::cuda {
namespace {

constexpr int kWarps = 4;  // rows, or groups of rows, per block

// Steps that remain from `begin`, at most `most`.
__device__ __forceinline__ int steps_left(std::int64_t steps, std::int64_t begin, int most) {
  const std::int64_t left = steps - begin;
  return left < most ? static_cast<int>(left) : most;
}

// Whether the row ends among a lane's `most` steps from `t` on, where `left` remain.
__device__ __forceinline__ bool ends_here(const Problem& p, std::int64_t t, int left, int most) {
  return left > 0 && left <= most && t + left == p.steps;
}

// kMoving: some parameter moves in time; those that do not are then read again at every step.
template <class X, bool kMoving>
__global__ void __launch_bounds__(kLanes * kWarps)
    adstock_hill_fwd_kernel(const __grid_constant__ Problem p, const __grid_constant__ Outputs o,
                            std::uint32_t rows) {
  constexpr int V = kPerLane<X>;
  const int lane = threadIdx.x % kLanes;
  const std::uint32_t row = blockIdx.x * kWarps + threadIdx.x / kLanes;
  if (row >= rows) return;
  const Position at(p, row);
  const X* const x = at.at<const X>(p.x);
  X* const response = at.at<X>(o.response);
  const bool wide = aligned(x) && aligned(response);

  Recurrence<V, kMoving> recurrence(p, at, lane);
  Curve<V, kMoving> curve(p, at);
  float carried = p.initial.data ? *at.at<const float>(p.initial) : 0.0f;
  float last = 0.0f;
  for (std::int64_t t0 = 0; t0 < p.steps; t0 += kChunk<X>) {
    const std::int64_t t = t0 + lane * V;
    const int left = steps_left(p.steps, t0, kChunk<X>) - lane * V;
    float a[V];
    load(x + t, left, wide, 0.0f, a);
    recurrence.read(p, t, left);
    recurrence.stock(a, carried, lane);
    curve.read(p, t, left);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const int c = curve.at(i);
      last = i < left ? a[i] : last;
      a[i] = Saturation(a[i], curve.slope[c], curve.log2_half[c]).response(a[i]);
    }
    store(response + t, left, wide, a);
    if (ends_here(p, t, left, V)) *at.at<float>(o.final) = last;
  }
}

__device__ __forceinline__ void put_total(float* p, float value, int lane) {
  if (!p) return;  // the same for all lanes
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAll, value, distance);
  }
  if (lane == 0) *p = value;
}

// Blocks on a multiprocessor that registers are kept low for, without spills.
template <class X, int kChunks>
constexpr int kBlocks = kChunks > 1 && kChunks * kPerLane<X> <= 16 ? 4 : 3;

// The stocks of kChunks chunks are recomputed into registers, then the gradient runs back over them.
// Rows longer than that do so segment by segment, from the last to the first; `workspace` then holds
// the stock before each segment but the first.
template <class X, bool kMoving, int kChunks>
__global__ void __launch_bounds__(kLanes * kWarps, kBlocks<X, kChunks>)
    adstock_hill_bwd_kernel(const __grid_constant__ Problem p, const __grid_constant__ Gradients g,
                            const __grid_constant__ Shared shared, float* workspace,
                            std::uint32_t groups, std::uint32_t rows_per_group) {
  constexpr int V = kPerLane<X>;
  constexpr int kSegment = kChunks * kChunk<X>;
  constexpr bool kLong = kSegment == kCudaSegment;  // else one segment holds the whole row
  const int lane = threadIdx.x % kLanes;
  const std::uint32_t group = blockIdx.x * kWarps + threadIdx.x / kLanes;
  if (group >= groups) return;
  const std::int64_t segments = kLong ? (p.steps + kSegment - 1) / kSegment : 1;

  for (std::uint32_t member = 0; member < rows_per_group; ++member) {
    const std::uint32_t row = group * rows_per_group + member;
    const bool add = member != 0;
    const Position at(p, row);
    Recurrence<V, kMoving> recurrence(p, at, lane);
    Curve<V, kMoving> curve(p, at);
    const X* const x_at = at.at<const X>(p.x) + lane * V;
    const X* const response_at = at.at<const X>(g.response) + lane * V;
    // of type X, or float where a group shares one
    char* const grad_x = at.at<char>(g.x, g.shared_axes ? sizeof(float) : sizeof(X));
    const bool wide = aligned(x_at) && aligned(response_at) && aligned(grad_x);
    const float initial = p.initial.data ? *at.at<const float>(p.initial) : 0.0f;

    float stock = initial;
    float* const saved = workspace + static_cast<std::int64_t>(row) * (segments - 1);
    if (kLong) {
      for (std::int64_t t0 = 0; t0 < (segments - 1) * kSegment; t0 += kChunk<X>) {
        float a[V];
        load(x_at + t0, V, wide, 0.0f, a);
        recurrence.read(p, t0 + lane * V, V);
        recurrence.stock(a, stock, lane);
        if (lane == 0 && (t0 + kChunk<X>) % kSegment == 0) saved[t0 / kSegment] = stock;
      }
      __syncwarp();
    }

    float decay_total = 0.0f, slope_total = 0.0f, half_total = 0.0f;
    float flow = 0.0f;  // gradient that leaves the chunk behind
    for (std::int64_t segment = segments - 1; segment >= 0; --segment) {
      const std::int64_t begin = kLong ? segment * kSegment : 0;
      const int in_segment = steps_left(p.steps, begin, kSegment);
      const float before_segment = kLong && segment ? saved[segment - 1] : initial;
      float x[kChunks][V], a[kChunks][V];
      stock = before_segment;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const int first = c * kChunk<X> + lane * V;
        const int left = in_segment - first;
        load(x_at + begin + c * kChunk<X>, left, wide, 0.0f, x[c]);
#pragma unroll
        for (int i = 0; i < V; ++i) a[c][i] = x[c][i];
        recurrence.read(p, begin + first, left);
        recurrence.stock(a[c], stock, lane);
      }
#pragma unroll
      for (int cc = 0; cc < kChunks; ++cc) {
        const int c = kChunks - 1 - cc;
        const int first = c * kChunk<X> + lane * V;
        const int left = in_segment - first;
        recurrence.read(p, begin + first, left);
        curve.read(p, begin + first, left);
        float grad[V], by_slope[V], by_half[V];
        load(response_at + begin + c * kChunk<X>, left, wide, 0.0f, grad);
        const bool has_last = ends_here(p, begin + first, left, V);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const int j = curve.at(i);
          const Saturation s(a[c][i], curve.slope[j], curve.log2_half[j]);
          // e r^2 = |s| (1 - |s|); nothing flows where the stock counts as zero
          const float by_logit = s.absent ? 0.0f : grad[i] * (s.e * s.r * s.r);
          const float signed_logit = a[c][i] < 0.0f ? -by_logit : by_logit;
          by_slope[i] = s.absent ? 0.0f : signed_logit * (s.log2_ratio * kLn2);
          by_half[i] = -signed_logit * curve.slope[j] * curve.per_half[j];
          slope_total += by_slope[i];
          half_total += by_half[i];
          grad[i] =
              s.absent ? 0.0f : by_logit * curve.slope[j] * __fdividef(1.0f, fabsf(a[c][i]));
          if (has_last && i == left - 1) grad[i] += *at.at<const float>(g.final);
        }
        if (kMoving && p.slope.step && g.slope.data) {
          put(at.at<float>(g.slope) + begin + first, left, false, add && shared.slope, by_slope);
        }
        if (kMoving && p.half_saturation.step && g.half_saturation.data) {
          put(at.at<float>(g.half_saturation) + begin + first, left, false,
              add && shared.half_saturation, by_half);
        }
        recurrence.gradient(grad, flow, lane);

        float before = __shfl_up_sync(kAll, a[c][V - 1], 1);
        const float chunk_before =
            c ? __shfl_sync(kAll, a[c ? c - 1 : 0][V - 1], kLanes - 1) : before_segment;
        before = lane ? before : chunk_before;
        if (begin + first == 0 && g.initial.data) {
          *at.at<float>(g.initial) = recurrence.first() * grad[0];
        }
        float by_decay[V];
#pragma unroll
        for (int i = 0; i < V; ++i) {
          by_decay[i] = grad[i] * ((i ? a[c][i ? i - 1 : 0] : before) - x[c][i]);
          decay_total += by_decay[i];
          grad[i] *= recurrence.rest(i);
        }
        if (kMoving && p.decay.step && g.decay.data) {
          put(at.at<float>(g.decay) + begin + first, left, false, add && shared.decay, by_decay);
        }
        if (grad_x && g.shared_axes) {
          put(reinterpret_cast<float*>(grad_x) + begin + first, left, wide, add && shared.x, grad);
        } else if (grad_x) {
          store(reinterpret_cast<X*>(grad_x) + begin + first, left, wide, grad);
        }
      }
    }
    if (!p.decay.step) put_total(at.at<float>(g.decay), decay_total, lane);
    if (!p.slope.step) put_total(at.at<float>(g.slope), slope_total, lane);
    if (!p.half_saturation.step) put_total(at.at<float>(g.half_saturation), half_total, lane);
  }
}

}  // namespace
}  // namespace causalmmm::cuda
