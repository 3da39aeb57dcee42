// What the CUDA kernels of the response operator are made of: a lane's loads and stores, the address of
// a row, saturation, and the recurrence across the lanes of a warp.
//
// Arrays are indexed by unrolled counters only (backward sweeps count upwards and mirror the index):
// otherwise the compiler would keep them in local memory.
#pragma once

#include <cuda_bf16.h>

#include <cfloat>
#include <cstdint>

#include "response/response.h"

namespace causalmmm::cuda {
namespace {

constexpr int kLanes = 32;
constexpr unsigned kAll = 0xffffffffu;
constexpr float kLn2 = 0.693147181f;

template <class X>
constexpr int kPerLane = 16 / sizeof(X);  // elements of a lane in one chunk
template <class X>
constexpr int kChunk = kLanes * kPerLane<X>;

// --- memory: of a lane's V elements those that exist, `left` from its first on, which may be none or
// more than V; `wide` where 16-byte access is aligned. Never clamp `left` to [0, V] and compare with V:
// ptxas of CUDA 13.0 then takes the predicate of VIMNMX.RELU for that comparison, which it is not.

template <int V>
__device__ __forceinline__ void load(const float* p, int left, bool wide, float fill,
                                     float (&v)[V]) {
  if (wide && left >= V) {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(p + i);
      v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] = i < left ? p[i] : fill;
  }
}

template <int V>
__device__ __forceinline__ void store(float* p, int left, bool wide, const float (&v)[V]) {
  if (wide && left >= V) {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
      *reinterpret_cast<float4*>(p + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (i < left) p[i] = v[i];
    }
  }
}

__device__ __forceinline__ float widen(std::uint32_t bits) { return __uint_as_float(bits << 16); }

__device__ __forceinline__ std::uint32_t narrow(float v) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(v));
}

__device__ __forceinline__ void load(const __nv_bfloat16* p, int left, bool wide, float fill,
                                     float (&v)[8]) {
  if (wide && left >= 8) {
    const uint4 raw = *reinterpret_cast<const uint4*>(p);
    const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = widen(words[i] & 0xffffu);
      v[2 * i + 1] = widen(words[i] >> 16);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = i < left ? __bfloat162float(p[i]) : fill;
  }
}

__device__ __forceinline__ void store(__nv_bfloat16* p, int left, bool wide, const float (&v)[8]) {
  if (wide && left >= 8) {
    *reinterpret_cast<uint4*>(p) =
        make_uint4(narrow(v[0]) | narrow(v[1]) << 16, narrow(v[2]) | narrow(v[3]) << 16,
                   narrow(v[4]) | narrow(v[5]) << 16, narrow(v[6]) | narrow(v[7]) << 16);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < left) p[i] = __float2bfloat16_rn(v[i]);
    }
  }
}

template <int V>
__device__ __forceinline__ void put(float* p, int left, bool wide, bool add, float (&v)[V]) {
  if (!p) return;
  if (add) {
    float before[V];
    load(p, left, wide, 0.0f, before);
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] += before[i];
  }
  store(p, left, wide, v);
}

__device__ __forceinline__ bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

// --- rows ------------------------------------------------------------------------------------------

// Index along every leading axis of a row. 32 bits: the host splits problems of more rows, since
// 64-bit division is a slow function call here.
struct Position {
  int axes;
  std::uint32_t index[kMaxAxes];

  __device__ Position(const Problem& p, std::uint32_t row) : axes(p.axes) {
#pragma unroll
    for (int kk = 0; kk < kMaxAxes; ++kk) {
      const int k = kMaxAxes - 1 - kk;
      index[k] = row;
      if (k == 0 || k >= axes) continue;
      const auto size = static_cast<std::uint32_t>(p.size[k]);
      row = index[k] / size;
      index[k] -= row * size;
    }
  }

  // Null for an absent operand. `size` is that of an element.
  template <class T>
  __device__ T* at(const Operand& operand, std::size_t size = sizeof(T)) const {
    std::int64_t offset = 0;
#pragma unroll
    for (int k = 0; k < kMaxAxes; ++k) {
      if (k < axes) offset += index[k] * operand.stride[k];
    }
    offset *= static_cast<std::int64_t>(size);
    return operand.data ? reinterpret_cast<T*>(static_cast<char*>(operand.data) + offset) : nullptr;
  }
};

// --- saturation ------------------------------------------------------------------------------------

struct Saturation {
  float log2_ratio, e, r;
  bool positive, absent;

  __device__ __forceinline__ Saturation(float a, float slope, float log2_half) {
    const float size = fabsf(a);
    absent = size < FLT_MIN;
    log2_ratio = __log2f(size) - log2_half;
    const float u = slope * log2_ratio;
    positive = u >= 0.0f;
    e = exp2f(-fabsf(u));
    r = __fdividef(1.0f, 1.0f + e);
  }

  __device__ __forceinline__ float response(float a) const {
    return absent ? 0.0f : copysignf(positive ? r : e * r, a);
  }
};

// Slope and half-saturation of a lane's V steps. Step 0: the one value is read again, from cache.
template <int V, bool kMoving>
struct Curve {
  const float *slope_at, *half_at;
  bool wide;
  float slope[kMoving ? V : 1], log2_half[kMoving ? V : 1], per_half[kMoving ? V : 1];

  __device__ __forceinline__ Curve(const Problem& p, const Position& at)
      : slope_at(at.at<const float>(p.slope)), half_at(at.at<const float>(p.half_saturation)) {
    if constexpr (kMoving) {
      wide = aligned(slope_at) && aligned(half_at) && p.slope.step && p.half_saturation.step;
    } else {
      slope[0] = *slope_at;
      log2_half[0] = __log2f(*half_at);
      per_half[0] = __fdividef(1.0f, *half_at);
    }
  }

  __device__ __forceinline__ void read(const Problem& p, std::int64_t t, int left) {
    if constexpr (kMoving) {
      if (wide && left >= V) {
        load(slope_at + t, V, true, 1.0f, slope);
        load(half_at + t, V, true, 1.0f, log2_half);
      } else {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          slope[i] = i < left ? slope_at[(t + i) * p.slope.step] : 1.0f;
          log2_half[i] = i < left ? half_at[(t + i) * p.half_saturation.step] : 1.0f;
        }
      }
#pragma unroll
      for (int i = 0; i < V; ++i) {
        per_half[i] = __fdividef(1.0f, log2_half[i]);
        log2_half[i] = __log2f(log2_half[i]);
      }
    }
  }

  static __device__ __forceinline__ constexpr int at(int i) { return kMoving ? i : 0; }
};

// --- recurrence across a chunk ---------------------------------------------------------------------

template <int V, bool kMoving>
struct Recurrence;

// Decay constant along the row.
template <int V>
struct Recurrence<V, false> {
  float decay, lane_decay;      // decay over one step, over a lane's V steps
  float lanes_before, lanes_after;  // decay over all steps of the lanes before, behind this one
  float chunk_decay;            // decay over a whole chunk

  __device__ __forceinline__ Recurrence(const Problem& p, const Position& at, int lane)
      : decay(*at.at<const float>(p.decay)) {
    lane_decay = decay;
#pragma unroll
    for (int i = 1; i < V; i *= 2) lane_decay *= lane_decay;
    lanes_before = lanes_after = 1.0f;
    float power = lane_decay;
#pragma unroll
    for (int bit = 1; bit < kLanes; bit *= 2) {
      lanes_before *= lane & bit ? power : 1.0f;
      lanes_after *= lane & bit ? 1.0f : power;
      power *= power;
    }
    chunk_decay = power;
  }

  __device__ __forceinline__ void read(const Problem&, std::int64_t, int) {}
  __device__ __forceinline__ float first() const { return decay; }
  __device__ __forceinline__ float rest(int) const { return 1.0f - decay; }

  // x becomes the stock; `carried` goes from the stock before the chunk to the one at its end.
  __device__ __forceinline__ void stock(float (&x)[V], float& carried, int lane) const {
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] = total = decay * total + rest(i) * x[i];
    float power = lane_decay;
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const float other = __shfl_up_sync(kAll, total, distance);
      total += lane >= distance ? power * other : 0.0f;
      power *= power;
    }
    float before = __shfl_up_sync(kAll, total, 1);
    before = (lane ? before : 0.0f) + lanes_before * carried;
    carried = __shfl_sync(kAll, total, kLanes - 1) + chunk_decay * carried;
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] += before *= decay;
  }

  // g becomes the gradient that flows through each stock; `carried` the one that leaves the chunk.
  __device__ __forceinline__ void gradient(float (&g)[V], float& carried, int lane) const {
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < V; ++i) g[V - 1 - i] = total = decay * total + g[V - 1 - i];
    float power = lane_decay;
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const float other = __shfl_down_sync(kAll, total, distance);
      total += lane + distance < kLanes ? power * other : 0.0f;
      power *= power;
    }
    float after = __shfl_down_sync(kAll, total, 1);
    after = (lane < kLanes - 1 ? after : 0.0f) + lanes_after * carried;
    carried = __shfl_sync(kAll, total, 0) + chunk_decay * carried;
#pragma unroll
    for (int i = 0; i < V; ++i) g[V - 1 - i] += after *= decay;
  }
};

// Decay that moves in time.
template <int V>
struct Recurrence<V, true> {
  const float* decay_at;
  bool wide;
  float decay[V], next;  // of the lane's steps, and of the step behind them

  __device__ __forceinline__ Recurrence(const Problem& p, const Position& at, int)
      : decay_at(at.at<const float>(p.decay)), wide(aligned(decay_at) && p.decay.step) {}

  __device__ __forceinline__ void read(const Problem& p, std::int64_t t, int left) {
    if (wide && left >= V) {
      load(decay_at + t, V, true, 0.0f, decay);
    } else {
#pragma unroll
      for (int i = 0; i < V; ++i) decay[i] = i < left ? decay_at[(t + i) * p.decay.step] : 0.0f;
    }
    next = t + V < p.steps ? decay_at[(t + V) * p.decay.step] : 0.0f;
  }
  __device__ __forceinline__ float first() const { return *decay_at; }
  __device__ __forceinline__ float rest(int i) const { return 1.0f - decay[i]; }

  __device__ __forceinline__ void stock(float (&x)[V], float& carried, int lane) const {
    float total = 0.0f, gate = 1.0f;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      x[i] = total = decay[i] * total + rest(i) * x[i];
      gate *= decay[i];
    }
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const float other = __shfl_up_sync(kAll, total, distance);
      const float other_gate = __shfl_up_sync(kAll, gate, distance);
      if (lane >= distance) {
        total += gate * other;
        gate *= other_gate;
      }
    }
    const float end = total + gate * carried;  // stock behind this lane
    float before = __shfl_up_sync(kAll, end, 1);
    before = lane ? before : carried;
    carried = __shfl_sync(kAll, end, kLanes - 1);
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] += before *= decay[i];
  }

  __device__ __forceinline__ void gradient(float (&g)[V], float& carried, int lane) const {
    float total = 0.0f, gate = 1.0f;
#pragma unroll
    for (int ii = 0; ii < V; ++ii) {
      const int i = V - 1 - ii;
      const float later = i + 1 < V ? decay[i + 1 < V ? i + 1 : 0] : next;
      g[i] = total = later * total + g[i];
      gate *= later;
    }
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const float other = __shfl_down_sync(kAll, total, distance);
      const float other_gate = __shfl_down_sync(kAll, gate, distance);
      if (lane + distance < kLanes) {
        total += gate * other;
        gate *= other_gate;
      }
    }
    const float start = total + gate * carried;
    float after = __shfl_down_sync(kAll, start, 1);
    after = lane < kLanes - 1 ? after : carried;
    carried = __shfl_sync(kAll, start, 0);
#pragma unroll
    for (int ii = 0; ii < V; ++ii) {
      const int i = V - 1 - ii;
      after *= i + 1 < V ? decay[i + 1 < V ? i + 1 : 0] : next;
      g[i] += after;
    }
  }
};

}  // namespace
}  // namespace causalmmm::cuda
