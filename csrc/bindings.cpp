// Python module causalmmm._C: turns addresses, sizes and strides into the core's structures, and its
// refusals into exceptions. No arithmetic here; who owns the memory is the caller's matter.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "response.h"

namespace py = pybind11;
using namespace causalmmm;

namespace {

class CudaError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::atomic<CpuLevel> cpu_level{detected_cpu_level()};

std::string set_cpu_level(const std::string& wanted) {
  for (CpuLevel level : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    if (wanted != name(level)) continue;
    if (!usable(level)) {
      throw std::invalid_argument("cpu level '" + wanted + "' is not available: this processor has '" +
                                  name(detected_cpu_level()) + "'");
    }
    return name(cpu_level.exchange(level));
  }
  throw std::invalid_argument("no cpu level '" + wanted + "'; there are portable, avx2 and avx512");
}

// (address, strides of the leading axes, elements per step in time), or None where absent
Operand operand(const py::handle& value, int axes) {
  Operand result;
  if (value.is_none()) return result;
  const auto parts = py::cast<py::tuple>(value);
  result.data = reinterpret_cast<void*>(parts[0].cast<std::uintptr_t>());
  const auto strides = parts[1].cast<py::tuple>();
  if (static_cast<int>(strides.size()) != axes) {
    throw std::invalid_argument("every operand needs one stride per leading axis");
  }
  for (int k = 0; k < axes; ++k) result.stride[k] = strides[k].cast<std::int64_t>();
  result.step = parts[2].cast<std::int64_t>();
  return result;
}

Problem problem(int dtype, const py::tuple& sizes, std::int64_t steps, const py::tuple& inputs) {
  Problem p;
  if (dtype < 0 || dtype > 2) throw std::invalid_argument("unknown dtype code");
  p.dtype = static_cast<Dtype>(dtype);
  if (sizes.size() > kMaxAxes) throw std::invalid_argument("too many leading axes");
  p.axes = static_cast<int>(sizes.size());
  for (int k = 0; k < p.axes; ++k) p.size[k] = sizes[k].cast<std::int64_t>();
  p.steps = steps;
  if (inputs.size() != 5) throw std::invalid_argument("five inputs are needed");
  p.x = operand(inputs[0], p.axes);
  p.decay = operand(inputs[1], p.axes);
  p.slope = operand(inputs[2], p.axes);
  p.half_saturation = operand(inputs[3], p.axes);
  p.initial = operand(inputs[4], p.axes);
  return p;
}

void refuse(const char* wrong) {
  if (wrong) throw std::invalid_argument(std::string("adstock_hill: ") + wrong);
}



void forward(int dtype, const py::tuple& sizes, std::int64_t steps, const py::tuple& inputs,
             const py::object& response, const py::object& final, int threads) {
  const Problem p = problem(dtype, sizes, steps, inputs);
  refuse(check(p));
  const Outputs o{operand(response, p.axes), operand(final, p.axes)};
  py::gil_scoped_release release;
  forward_cpu(p, o, threads, cpu_level);
}

Gradients gradients(int shared_axes, const py::tuple& incoming, const py::tuple& outgoing,
                    const Problem& p) {
  if (incoming.size() != 2 || outgoing.size() != 5) {
    throw std::invalid_argument("two incoming and five outgoing gradients are needed");
  }
  Gradients g;
  g.shared_axes = shared_axes;
  g.response = operand(incoming[0], p.axes);
  g.final = operand(incoming[1], p.axes);
  g.x = operand(outgoing[0], p.axes);
  g.decay = operand(outgoing[1], p.axes);
  g.slope = operand(outgoing[2], p.axes);
  g.half_saturation = operand(outgoing[3], p.axes);
  g.initial = operand(outgoing[4], p.axes);
  return g;
}

void backward(int dtype, const py::tuple& sizes, std::int64_t steps, const py::tuple& inputs,
              int shared_axes, const py::tuple& incoming, const py::tuple& outgoing, int threads) {
  const Problem p = problem(dtype, sizes, steps, inputs);
  const Gradients g = gradients(shared_axes, incoming, outgoing, p);
  refuse(check(p, g));
  py::gil_scoped_release release;
  backward_cpu(p, g, threads, cpu_level);
}

#if CAUSALMMM_WITH_CUDA

void refuse_cuda(int status) {
  if (status != 0) {
    throw CudaError(std::string("adstock_hill: ") + cuda_error_name(status) + ": " +
                    cuda_error_text(status));
  }
}

void forward_on_gpu(int dtype, const py::tuple& sizes, std::int64_t steps, const py::tuple& inputs,
                    const py::object& response, const py::object& final, int device,
                    std::uintptr_t stream) {
  const Problem p = problem(dtype, sizes, steps, inputs);
  refuse(check(p));
  const Outputs o{operand(response, p.axes), operand(final, p.axes)};
  py::gil_scoped_release release;
  refuse_cuda(forward_cuda(p, o, device, reinterpret_cast<void*>(stream)));
}

void backward_on_gpu(int dtype, const py::tuple& sizes, std::int64_t steps, const py::tuple& inputs,
                     int shared_axes, const py::tuple& incoming, const py::tuple& outgoing,
                     std::uintptr_t workspace, int device, std::uintptr_t stream) {
  const Problem p = problem(dtype, sizes, steps, inputs);
  const Gradients g = gradients(shared_axes, incoming, outgoing, p);
  refuse(check(p, g));
  py::gil_scoped_release release;
  refuse_cuda(backward_cuda(p, g, reinterpret_cast<float*>(workspace), device,
                            reinterpret_cast<void*>(stream)));
}

#else

void forward_on_gpu(const py::args&) {
  throw CudaError(
      "adstock_hill: causalmmm was built without CUDA kernels; reinstall it with "
      "CAUSALMMM_CUDA=ON in the environment and nvcc on the PATH");
}

void backward_on_gpu(const py::args& arguments) { forward_on_gpu(arguments); }

#endif

py::dict build_info() {
  py::dict info;
  info["version"] = CAUSALMMM_VERSION;
  info["cuda"] = static_cast<bool>(CAUSALMMM_WITH_CUDA);
#ifdef _OPENMP
  info["openmp"] = true;
#else
  info["openmp"] = false;
#endif
  info["cpu_level"] = name(detected_cpu_level());
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of causalmmm.";
  py::register_exception<CudaError>(m, "CudaError", PyExc_RuntimeError);
  m.attr("CUDA_SEGMENT") = kCudaSegment;
  m.def("build_info", build_info,
        "What this module was built with, and the vector instructions found on this processor.");
  m.def("set_cpu_level", set_cpu_level, py::arg("level"),
        "Use 'portable', 'avx2' or 'avx512' code from now on; returns the level used before.");
  m.def("response_forward", forward);
  m.def("response_backward", backward);
  m.def("response_forward_cuda", forward_on_gpu);
  m.def("response_backward_cuda", backward_on_gpu);
}
