// CUDA entry points: device and stream, which kernel, problems of more rows than one launch takes.
#include <cuda_runtime.h>

#include "response/response_kernels.cuh"

namespace causalmmm {
namespace {

using namespace cuda;

class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    status = cudaGetDevice(&before_);
    if (status == cudaSuccess && before_ != device) status = cudaSetDevice(device);
  }
  ~DeviceGuard() {
    if (status == cudaSuccess) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;

  cudaError_t status;

 private:
  int before_ = 0;
};

template <class X, bool kMoving>
void launch_forward(const Problem& p, const Outputs& o, std::uint32_t rows, cudaStream_t stream) {
  const unsigned blocks = (rows + kWarps - 1) / kWarps;
  adstock_hill_fwd_kernel<X, kMoving><<<blocks, kLanes * kWarps, 0, stream>>>(p, o, rows);
}

template <class X, bool kMoving>
void launch_backward(const Problem& p, const Gradients& g, float* workspace, std::uint32_t groups,
                     std::uint32_t rows_per_group, cudaStream_t stream) {
  const unsigned blocks = (groups + kWarps - 1) / kWarps;
  const auto with = [&](auto kernel) {
    kernel<<<blocks, kLanes * kWarps, 0, stream>>>(p, g, shared_gradients(p, g), workspace, groups,
                                                   rows_per_group);
  };
  constexpr int kLong = kCudaSegment / kChunk<X>;
  const std::int64_t chunks = (p.steps + kChunk<X> - 1) / kChunk<X>;
  if (chunks <= 1) return with(adstock_hill_bwd_kernel<X, kMoving, 1>);
  if constexpr (!kMoving) {  // where registers allow it, twice as much without reading x again
    if (chunks > kLong && chunks <= 2 * kLong) {
      return with(adstock_hill_bwd_kernel<X, kMoving, 2 * kLong>);
    }
  }
  with(adstock_hill_bwd_kernel<X, kMoving, kLong>);
}

bool moving(const Problem& p) {
  return p.decay.step || p.slope.step || p.half_saturation.step;
}

// The half of a problem in which axis k runs over [begin, begin + size).
void narrow_axis(Operand& operand, int k, std::int64_t begin, std::size_t value_size) {
  if (!operand.data) return;
  operand.data = static_cast<char*>(operand.data) +
                 begin * operand.stride[k] * static_cast<std::int64_t>(value_size);
}

void narrow_axis(Problem& p, int k, std::int64_t begin, std::int64_t size, std::size_t x_size) {
  p.size[k] = size;
  narrow_axis(p.x, k, begin, x_size);
  for (Operand* o : {&p.decay, &p.slope, &p.half_saturation, &p.initial}) {
    narrow_axis(*o, k, begin, sizeof(float));
  }
}

constexpr std::int64_t kMostRows = std::int64_t{1} << 30;  // per launch

int first_wide_axis(const Problem& p) {
  int k = 0;
  while (k < p.axes && p.size[k] == 1) ++k;
  return k;
}

int launch(const Problem& p, const Outputs& o, cudaStream_t stream) {
  const std::int64_t rows = span(p, 0, p.axes);
  if (rows > kMostRows) {
    const int k = first_wide_axis(p);
    const std::size_t x_size = p.dtype == Dtype::kBfloat16 ? 2 : 4;
    for (int half = 0; half < 2; ++half) {
      const std::int64_t middle = p.size[k] / 2, begin = half ? middle : 0;
      Problem part = p;
      Outputs out = o;
      narrow_axis(part, k, begin, half ? p.size[k] - middle : middle, x_size);
      narrow_axis(out.response, k, begin, x_size);
      narrow_axis(out.final, k, begin, sizeof(float));
      if (const int status = launch(part, out, stream)) return status;
    }
    return cudaSuccess;
  }
  const auto count = static_cast<std::uint32_t>(rows);
  if (p.dtype == Dtype::kFloat32) {
    moving(p) ? launch_forward<float, true>(p, o, count, stream)
              : launch_forward<float, false>(p, o, count, stream);
  } else {
    moving(p) ? launch_forward<__nv_bfloat16, true>(p, o, count, stream)
              : launch_forward<__nv_bfloat16, false>(p, o, count, stream);
  }
  return cudaGetLastError();
}

int launch(const Problem& p, const Gradients& g, float* workspace, cudaStream_t stream) {
  const std::int64_t rows = span(p, 0, p.axes);
  if (rows > kMostRows) {
    const int k = first_wide_axis(p);
    if (k >= p.axes - g.shared_axes) return cudaErrorInvalidValue;  // one group alone is too large
    const std::size_t x_size = p.dtype == Dtype::kBfloat16 ? 2 : 4;
    for (int half = 0; half < 2; ++half) {
      const std::int64_t middle = p.size[k] / 2, begin = half ? middle : 0;
      Problem part = p;
      Gradients out = g;
      narrow_axis(part, k, begin, half ? p.size[k] - middle : middle, x_size);
      narrow_axis(out.response, k, begin, x_size);
      narrow_axis(out.x, k, begin, g.shared_axes ? sizeof(float) : x_size);
      for (Operand* o : {&out.final, &out.decay, &out.slope, &out.half_saturation, &out.initial}) {
        narrow_axis(*o, k, begin, sizeof(float));
      }
      // the halves follow each other on the stream, so they share the workspace
      if (const int status = launch(part, out, workspace, stream)) return status;
    }
    return cudaSuccess;
  }
  const auto groups = static_cast<std::uint32_t>(span(p, 0, p.axes - g.shared_axes));
  const auto each = static_cast<std::uint32_t>(rows / groups);
  if (p.dtype == Dtype::kFloat32) {
    moving(p) ? launch_backward<float, true>(p, g, workspace, groups, each, stream)
              : launch_backward<float, false>(p, g, workspace, groups, each, stream);
  } else {
    moving(p) ? launch_backward<__nv_bfloat16, true>(p, g, workspace, groups, each, stream)
              : launch_backward<__nv_bfloat16, false>(p, g, workspace, groups, each, stream);
  }
  return cudaGetLastError();
}

}  // namespace

int forward_cuda(const Problem& p, const Outputs& o, int device, void* stream) {
  if (span(p, 0, p.axes) == 0) return cudaSuccess;
  if (p.dtype == Dtype::kFloat64) return cudaErrorInvalidValue;
  const DeviceGuard guard(device);
  if (guard.status != cudaSuccess) return guard.status;
  return launch(p, o, static_cast<cudaStream_t>(stream));
}

int backward_cuda(const Problem& p, const Gradients& g, float* workspace, int device,
                  void* stream) {
  if (span(p, 0, p.axes) == 0) return cudaSuccess;
  if (p.dtype == Dtype::kFloat64) return cudaErrorInvalidValue;
  if (p.steps > kCudaSegment && !workspace) return cudaErrorInvalidValue;
  const DeviceGuard guard(device);
  if (guard.status != cudaSuccess) return guard.status;
  return launch(p, g, workspace, static_cast<cudaStream_t>(stream));
}

const char* cuda_error_name(int status) { return cudaGetErrorName(static_cast<cudaError_t>(status)); }
const char* cuda_error_text(int status) {
  return cudaGetErrorString(static_cast<cudaError_t>(status));
}

}  // namespace causalmmm
