// Responses and delays: operands of any strides for the response, plain addresses for delays.
#include "python/arguments.h"
#include "response/delay.h"
#include "response/response.h"

namespace causalmmm {
namespace {

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

// --- delays: sizes and addresses, in the order of delay.h ---------------------------------------------

DelayProblem delays(const std::array<std::int64_t, 3>& sizes,
                    const std::vector<std::int64_t>& delay) {
  DelayProblem p;
  p.rows = sizes[0], p.steps = sizes[1], p.kept = sizes[2];
  p.components = static_cast<std::int64_t>(delay.size()), p.delay = delay.data();
  return sound(p);
}

void delay_forward(const std::array<std::int64_t, 3>& sizes, const std::vector<std::int64_t>& delay,
                   std::uintptr_t from, std::uintptr_t to, int threads) {
  const DelayProblem p = delays(sizes, delay);
  py::gil_scoped_release release;
  delay_forward_cpu(p, pointer(from), pointer(to), threads);
}

void delay_backward(const std::array<std::int64_t, 3>& sizes, const std::vector<std::int64_t>& delay,
                    std::uintptr_t to, std::uintptr_t from, int threads) {
  const DelayProblem p = delays(sizes, delay);
  py::gil_scoped_release release;
  delay_backward_cpu(p, pointer(to), pointer(from), threads);
}

}  // namespace

void bind_responses(py::module_& m) {
  m.attr("CUDA_SEGMENT") = kCudaSegment;
  m.def("response_forward", forward);
  m.def("response_backward", backward);
  m.def("response_forward_cuda", forward_on_gpu);
  m.def("response_backward_cuda", backward_on_gpu);
  m.def("delay_forward", delay_forward);
  m.def("delay_backward", delay_backward);
}

}  // namespace causalmmm
