// Response operator: carry-over (adstock recurrence) fused with Hill saturation, forward and backward.
// Plain functions on raw pointers, sizes and strides: no torch and no Python below this header.
//
//   a_t = decay_t a_{t-1} + (1 - decay_t) x_t,                         a_{-1} = initial
//   s_t = sign(a_t) |a_t|^slope_t / (|a_t|^slope_t + half_saturation_t^slope_t)
//
// A row is one series in time. Operands address rows by strides over common leading axes, so that
// a stride of 0 broadcasts without a copy. Stocks below the smallest normal float count as zero.
#pragma once

#include <cstdint>

#include "common/cpu_level.h"

namespace causalmmm {

constexpr int kMaxAxes = 6;

// Of x and of the response. Everything else is float32, or float64 when x is.
enum class Dtype : int { kFloat32 = 0, kBfloat16 = 1, kFloat64 = 2 };

struct Operand {
  void* data = nullptr;  // null: absent, or a gradient that is not needed
  std::int64_t stride[kMaxAxes] = {};  // elements per step along each leading axis
  std::int64_t step = 0;  // elements per step in time: 0 (constant in time) or 1
};

struct Problem {
  Dtype dtype = Dtype::kFloat32;
  int axes = 0;                      // leading axes in use
  std::int64_t size[kMaxAxes] = {};  // their sizes
  std::int64_t steps = 0;            // T >= 1
  Operand x, decay, slope, half_saturation, initial;
};

struct Outputs {
  Operand response, final;
};

// Gradients of the two outputs, and those of the inputs that are to be computed.
//
// The last `shared_axes` leading axes form a group of rows that one worker visits in order. A
// gradient that moves in time and has stride 0 along all of them is summed over the group in place;
// any other gradient must give every row its own place, and the caller sums afterwards. Gradients
// are written in the accumulation type; that of x in the type of x where `shared_axes` is 0.
struct Gradients {
  int shared_axes = 0;
  Operand response, final;
  Operand x, decay, slope, half_saturation, initial;
};

// Rows that axes [first, end) span.
std::int64_t span(const Problem& problem, int first, int end);

// Which gradients the rows of a group add up in one place.
struct Shared {
  bool x, decay, slope, half_saturation;
};
Shared shared_gradients(const Problem& problem, const Gradients& gradients);

// Null on success, else a sentence that names the wrong argument.
const char* check(const Problem& problem);
const char* check(const Problem& problem, const Gradients& gradients);

// CPU. `threads` is the caller's limit. `level` must be usable().
void forward_cpu(const Problem& problem, const Outputs& outputs, int threads, CpuLevel level);
void backward_cpu(const Problem& problem, const Gradients& gradients, int threads, CpuLevel level);

// CUDA, float32 and bfloat16, on `stream` (a cudaStream_t) of `device`. They return 0 or a
// cudaError_t. The backward pass needs `workspace`, (steps - 1) / kCudaSegment floats per row.
constexpr std::int64_t kCudaSegment = 512;
int forward_cuda(const Problem& problem, const Outputs& outputs, int device, void* stream);
int backward_cuda(const Problem& problem, const Gradients& gradients, float* workspace, int device,
                  void* stream);
const char* cuda_error_name(int status);
const char* cuda_error_text(int status);

}  // namespace causalmmm
