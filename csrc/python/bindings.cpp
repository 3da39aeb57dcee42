// Python module causalmmm._C: turns addresses, sizes and strides into the core's structures, and its
// error messages into exceptions. No arithmetic here; the caller owns the memory.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "calendar/calendar.h"
#include "edge/edge.h"
#include "evidence/evidence.h"
#include "likelihood/likelihood.h"
#include "posterior/posterior.h"
#include "response/delay.h"
#include "response/response.h"

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

// --- edge operators: tuples of addresses, 0 where absent -------------------------------------------

template <class T = float>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

template <class T = float>
T* address(const py::tuple& addresses, std::size_t k) {
  return pointer<T>(addresses[k].cast<std::uintptr_t>());
}

// sizes: stores, nodes, width, features, types.
// first: sender, receiver, w2, b2, features, wf; then states and moments, of what was kept.
// second, empty for edge_mean: sender, receiver, w3, w4, b4, wo, bo.
// draw, likewise: log_prior, one prior per store, temperature, seed or None, store ids, hard.
EdgeProblem edge_problem(const py::tuple& sizes, const py::tuple& first, const py::tuple& second,
                         const py::tuple& draw) {
  EdgeProblem p;
  if (sizes.size() != 5 || first.size() != 8 || (!second.empty() && second.size() != 7) ||
      draw.size() != (second.empty() ? 0 : 6)) {
    throw std::invalid_argument("edge operators: a tuple has the wrong length");
  }
  p.stores = sizes[0].cast<std::int64_t>(), p.nodes = sizes[1].cast<std::int64_t>();
  p.width = sizes[2].cast<std::int64_t>(), p.features = sizes[3].cast<std::int64_t>();
  p.types = sizes[4].cast<std::int64_t>();
  p.sender1 = address(first, 0), p.receiver1 = address(first, 1);
  p.w2 = address(first, 2), p.b2 = address(first, 3);
  p.edge_features = address(first, 4), p.wf = address(first, 5);
  p.states = address(first, 6), p.moments = address(first, 7);
  if (!second.empty()) {
    p.sender2 = address(second, 0), p.receiver2 = address(second, 1);
    p.w3 = address(second, 2), p.w4 = address(second, 3), p.b4 = address(second, 4);
    p.wo = address(second, 5), p.bo = address(second, 6);
    p.log_prior = address(draw, 0), p.prior_per_store = draw[1].cast<bool>();
    p.temperature = draw[2].cast<float>();
    p.noisy = !draw[3].is_none();
    if (p.noisy) p.seed = static_cast<std::uint64_t>(draw[3].cast<std::int64_t>());
    p.store_ids = address<std::int64_t>(draw, 4), p.hard = draw[5].cast<bool>();
  }
  if (const char* wrong = check(p)) {
    throw std::invalid_argument(std::string("edge operators: ") + wrong);
  }
  return p;
}

// Of edge_sample: z, logits, kl. Of edge_mean: mean, states, moments.
EdgeOutputs edge_outputs(const EdgeProblem& p, const py::tuple& outputs) {
  EdgeOutputs r;
  if (p.sender2) {
    r.z = address(outputs, 0), r.logits = address(outputs, 1), r.kl = address(outputs, 2);
  } else {
    r.mean = address(outputs, 0), r.states = address(outputs, 1), r.moments = address(outputs, 2);
  }
  return r;
}

void edge_forward(const py::tuple& sizes, const py::tuple& first, const py::tuple& second,
                  const py::tuple& draw, const py::tuple& outputs, int threads) {
  const EdgeProblem p = edge_problem(sizes, first, second, draw);
  const EdgeOutputs r = edge_outputs(p, outputs);
  py::gil_scoped_release release;
  edges_forward_cpu(p, r, threads, cpu_level);
}

// incoming: as outputs, of which the moments have none. gradients: of the arguments of `first` up to
// states, then those of `second` and log_prior.
void edge_backward(const py::tuple& sizes, const py::tuple& first, const py::tuple& second,
                   const py::tuple& draw, const py::tuple& outputs, const py::tuple& incoming,
                   const py::tuple& gradients, int threads) {
  const EdgeProblem p = edge_problem(sizes, first, second, draw);
  const EdgeOutputs r = p.sender2 ? edge_outputs(p, outputs) : EdgeOutputs{};
  const EdgeOutputs grads = edge_outputs(p, incoming);  // the same addresses, of what is read
  const EdgeOutputGradients d_outputs{grads.mean, grads.states, grads.z, grads.logits, grads.kl};
  EdgeGradients g;
  g.sender1 = address(gradients, 0), g.receiver1 = address(gradients, 1);
  g.w2 = address(gradients, 2), g.b2 = address(gradients, 3);
  g.edge_features = address(gradients, 4), g.wf = address(gradients, 5);
  g.states = address(gradients, 6);
  if (p.sender2) {
    g.sender2 = address(gradients, 7), g.receiver2 = address(gradients, 8);
    g.w3 = address(gradients, 9), g.w4 = address(gradients, 10), g.b4 = address(gradients, 11);
    g.wo = address(gradients, 12), g.bo = address(gradients, 13);
    g.log_prior = address(gradients, 14);
  }
  py::gil_scoped_release release;
  edges_backward_cpu(p, r, d_outputs, g, threads, cpu_level);
}

// --- evidence: sizes, scales and addresses, in the order of evidence.h ---------------------------------

template <class Problem>
const Problem& sound(const Problem& p) {
  if (const char* wrong = check(p)) throw std::invalid_argument(wrong);
  return p;
}

// `scales`: ridge, clip, flat.
void window_statistics(const std::array<std::int64_t, 4>& sizes, const std::array<float, 3>& scales,
                       const std::array<std::uintptr_t, 4>& inputs,
                       const std::array<std::uintptr_t, 4>& outputs, int threads) {
  WindowProblem p;
  p.stores = sizes[0], p.nodes = sizes[1], p.steps = sizes[2], p.lags = sizes[3];
  p.scales = {scales[0], scales[1], scales[2]};
  p.residual = pointer(inputs[0]), p.received = pointer(inputs[1]), p.active = pointer(inputs[2]);
  p.context_mask = pointer<std::uint8_t>(inputs[3]);
  p.edges = pointer(outputs[0]), p.node_features = pointer(outputs[1]);
  p.spread = pointer(outputs[2]), p.rows = pointer(outputs[3]);
  py::gil_scoped_release release;
  window_statistics_cpu(sound(p), threads, cpu_level);
}

void response_terms(const std::array<std::int64_t, 6>& sizes, const std::array<float, 3>& scales,
                    const std::array<std::uintptr_t, 9>& inputs,
                    const std::array<std::uintptr_t, 7>& outputs, int threads) {
  ResponseTermsProblem p;
  p.stores = sizes[0], p.nodes = sizes[1], p.components = sizes[2], p.steps = sizes[3];
  p.terms = sizes[4], p.ar_lags = sizes[5];
  p.scales = {scales[0], scales[1], scales[2]};
  p.residual = pointer(inputs[0]), p.ar_weights = pointer(inputs[1]);
  p.responses = pointer(inputs[2]), p.solver = pointer(inputs[3]), p.basis = pointer(inputs[4]);
  p.beta = pointer(inputs[5]), p.log_noise = pointer(inputs[6]), p.active = pointer(inputs[7]);
  p.context_mask = pointer<std::uint8_t>(inputs[8]);
  p.statistics = pointer(outputs[0]), p.xty = pointer(outputs[1]), p.xtx_diag = pointer(outputs[2]);
  p.overlap = pointer(outputs[3]), p.gram = pointer(outputs[4]), p.cross = pointer(outputs[5]);
  p.share = pointer(outputs[6]);
  py::gil_scoped_release release;
  response_terms_cpu(sound(p), threads, cpu_level);
}

void mean_field(const std::array<std::int64_t, 3>& sizes, float spread,
                const std::array<std::uintptr_t, 3>& inputs,
                const std::array<std::uintptr_t, 2>& outputs, int threads) {
  MeanFieldProblem p;
  p.stores = sizes[0], p.nodes = sizes[1], p.sweeps = sizes[2], p.spread = spread;
  p.xty = pointer(inputs[0]), p.overlap = pointer(inputs[1]), p.log_odds = pointer(inputs[2]);
  p.factor = pointer(outputs[0]), p.post_mean = pointer(outputs[1]);
  py::gil_scoped_release release;
  mean_field_cpu(sound(p), threads, cpu_level);
}

// --- calendar, likelihood, posterior: sizes and addresses, in the order of their headers ----------------

CalendarProblem calendar(const std::array<std::int64_t, 4>& sizes,
                         const std::array<std::uintptr_t, 7>& inputs) {
  CalendarProblem p;
  p.stores = sizes[0], p.nodes = sizes[1], p.steps = sizes[2], p.terms = sizes[3];
  p.x = pointer(inputs[0]), p.basis = pointer(inputs[1]);
  p.context_mask = pointer<std::uint8_t>(inputs[2]);
  p.target_mask = pointer<std::uint8_t>(inputs[3]);
  p.spend = pointer<std::uint8_t>(inputs[4]);
  p.shared = pointer(inputs[5]), p.log_ridge = pointer(inputs[6]);
  return sound(p);
}

void calendar_forward(const std::array<std::int64_t, 4>& sizes,
                      const std::array<std::uintptr_t, 7>& inputs,
                      const std::array<std::uintptr_t, 6>& outputs, int threads) {
  const CalendarProblem p = calendar(sizes, inputs);
  const CalendarOutputs o{pointer(outputs[0]), pointer(outputs[1]), pointer(outputs[2]),
                          pointer(outputs[3]), pointer(outputs[4]), pointer<double>(outputs[5])};
  py::gil_scoped_release release;
  calendar_forward_cpu(p, o, threads, cpu_level);
}

// kept: active, solver, spread. incoming: residual, coefficients, solver, spread; 0 where zero.
void calendar_backward(const std::array<std::int64_t, 4>& sizes,
                       const std::array<std::uintptr_t, 7>& inputs,
                       const std::array<std::uintptr_t, 3>& kept,
                       const std::array<std::uintptr_t, 4>& incoming,
                       const std::array<std::uintptr_t, 2>& gradients, int threads) {
  const CalendarProblem p = calendar(sizes, inputs);
  CalendarOutputs o;
  o.active = pointer(kept[0]), o.solver = pointer(kept[1]), o.spread = pointer<double>(kept[2]);
  const CalendarGradients g{pointer(incoming[0]), pointer(incoming[1]), pointer(incoming[2]),
                            pointer<double>(incoming[3]), pointer(gradients[0]),
                            pointer(gradients[1])};
  py::gil_scoped_release release;
  calendar_backward_cpu(p, o, g, threads, cpu_level);
}

LikelihoodProblem likelihood(const std::array<std::int64_t, 6>& sizes,
                             const std::array<std::uintptr_t, 12>& inputs) {
  LikelihoodProblem p;
  p.stores = sizes[0], p.nodes = sizes[1], p.components = sizes[2], p.steps = sizes[3];
  p.terms = sizes[4], p.lags = sizes[5];
  p.residual = pointer(inputs[0]), p.responses = pointer(inputs[1]), p.gate = pointer(inputs[2]);
  p.log_effect = pointer(inputs[3]), p.beta = pointer(inputs[4]), p.solver = pointer(inputs[5]);
  p.basis = pointer(inputs[6]), p.ar_weights = pointer(inputs[7]), p.log_noise = pointer(inputs[8]);
  p.active = pointer(inputs[9]), p.context_mask = pointer<std::uint8_t>(inputs[10]);
  p.target_mask = pointer<std::uint8_t>(inputs[11]);
  return sound(p);
}

void likelihood_forward(const std::array<std::int64_t, 6>& sizes,
                        const std::array<std::uintptr_t, 12>& inputs, std::uintptr_t nll,
                        int threads) {
  const LikelihoodProblem p = likelihood(sizes, inputs);
  py::gil_scoped_release release;
  likelihood_forward_cpu(p, pointer(nll), threads, cpu_level);
}

void likelihood_backward(const std::array<std::int64_t, 6>& sizes,
                         const std::array<std::uintptr_t, 12>& inputs, std::uintptr_t grad_nll,
                         const std::array<std::uintptr_t, 8>& gradients, int threads) {
  const LikelihoodProblem p = likelihood(sizes, inputs);
  LikelihoodGradients g;
  g.nll = pointer(grad_nll), g.residual = pointer(gradients[0]);
  g.responses = pointer(gradients[1]), g.gate = pointer(gradients[2]);
  g.log_effect = pointer(gradients[3]), g.beta = pointer(gradients[4]);
  g.solver = pointer(gradients[5]), g.ar_weights = pointer(gradients[6]);
  g.log_noise = pointer(gradients[7]);
  py::gil_scoped_release release;
  likelihood_backward_cpu(p, g, threads, cpu_level);
}

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

PriorProblem edge_prior(const std::array<std::int64_t, 3>& sizes, float bound,
                        const std::array<std::uintptr_t, 4>& inputs) {
  PriorProblem p;
  p.stores = sizes[0], p.nodes = sizes[1], p.prototypes = sizes[2], p.bound = bound;
  p.odds = pointer(inputs[0]), p.mixture = pointer(inputs[1]), p.factor = pointer(inputs[2]);
  p.fixed_prior = pointer(inputs[3]);
  return sound(p);
}

void prior_forward(const std::array<std::int64_t, 3>& sizes, float bound,
                   const std::array<std::uintptr_t, 4>& inputs,
                   const std::array<std::uintptr_t, 3>& outputs, int threads) {
  const PriorProblem p = edge_prior(sizes, bound, inputs);
  const PriorOutputs o{pointer(outputs[0]), pointer(outputs[1]), pointer(outputs[2])};
  py::gil_scoped_release release;
  prior_forward_cpu(p, o, threads, cpu_level);
}

// incoming: log_prior, kl; 0 where zero. gradients: odds, mixture.
void prior_backward(const std::array<std::int64_t, 3>& sizes, float bound,
                    const std::array<std::uintptr_t, 4>& inputs, std::uintptr_t log_share,
                    const std::array<std::uintptr_t, 2>& incoming,
                    const std::array<std::uintptr_t, 2>& gradients, int threads) {
  const PriorProblem p = edge_prior(sizes, bound, inputs);
  PriorOutputs o;
  o.log_share = pointer(log_share);
  const PriorGradients g{pointer(incoming[0]), pointer(incoming[1]), pointer(gradients[0]),
                         pointer(gradients[1])};
  py::gil_scoped_release release;
  prior_backward_cpu(p, o, g, threads, cpu_level);
}

EffectProblem effect_sample(const std::array<std::int64_t, 2>& sizes, float prior_sd,
                            const std::array<std::uintptr_t, 4>& inputs) {
  EffectProblem p;
  p.stores = sizes[0], p.nodes = sizes[1], p.prior_sd = prior_sd;
  p.mean = pointer(inputs[0]), p.log_sd = pointer(inputs[1]), p.noise = pointer(inputs[2]);
  p.logits = pointer(inputs[3]);
  return sound(p);
}

void effects_forward(const std::array<std::int64_t, 2>& sizes, float prior_sd,
                     const std::array<std::uintptr_t, 4>& inputs,
                     const std::array<std::uintptr_t, 2>& outputs, int threads) {
  const EffectProblem p = effect_sample(sizes, prior_sd, inputs);
  py::gil_scoped_release release;
  effects_forward_cpu(p, {pointer(outputs[0]), pointer(outputs[1])}, threads, cpu_level);
}

// incoming: effect, kl; 0 where zero. gradients: mean, log_sd, logits.
void effects_backward(const std::array<std::int64_t, 2>& sizes, float prior_sd,
                      const std::array<std::uintptr_t, 4>& inputs,
                      const std::array<std::uintptr_t, 2>& incoming,
                      const std::array<std::uintptr_t, 3>& gradients, int threads) {
  const EffectProblem p = effect_sample(sizes, prior_sd, inputs);
  const EffectGradients g{pointer(incoming[0]), pointer(incoming[1]), pointer(gradients[0]),
                          pointer(gradients[1]), pointer(gradients[2])};
  py::gil_scoped_release release;
  effects_backward_cpu(p, g, threads, cpu_level);
}

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
  m.attr("EDGE_INTERFACE") = 2;  // counts up when the tuples below change
  m.attr("EDGE_WIDTH_STEP") = kEdgeWidthStep;
  m.attr("MAX_EDGE_TYPES") = kMaxEdgeTypes;
  m.attr("RESPONSE_STATISTICS") = kResponseStatistics;
  m.def("window_statistics", window_statistics);
  m.def("response_terms", response_terms);
  m.def("mean_field", mean_field);
  m.attr("CALENDAR_RUN") = kCalendarRun;
  m.attr("LIKELIHOOD_RUN") = kLikelihoodRun;
  m.attr("POSTERIOR_RUN") = kPosteriorRun;
  m.def("calendar_forward", calendar_forward);
  m.def("calendar_backward", calendar_backward);
  m.def("delay_forward", delay_forward);
  m.def("delay_backward", delay_backward);
  m.def("prior_forward", prior_forward);
  m.def("prior_backward", prior_backward);
  m.def("effects_forward", effects_forward);
  m.def("effects_backward", effects_backward);
  m.def("likelihood_forward", likelihood_forward);
  m.def("likelihood_backward", likelihood_backward);
  m.def("edge_forward", edge_forward);
  m.def("edge_backward", edge_backward);
  m.def("response_forward", forward);
  m.def("response_backward", backward);
  m.def("response_forward_cuda", forward_on_gpu);
  m.def("response_backward_cuda", backward_on_gpu);
}
