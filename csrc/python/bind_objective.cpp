// Calendar, likelihood and posterior, of which the objective is made: sizes and addresses, in the order
// of their headers.
#include "python/arguments.h"
#include "calendar/calendar.h"
#include "likelihood/likelihood.h"
#include "posterior/posterior.h"

namespace causalmmm {
namespace {

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

}  // namespace

void bind_objective(py::module_& m) {
  m.attr("CALENDAR_RUN") = kCalendarRun;
  m.attr("LIKELIHOOD_RUN") = kLikelihoodRun;
  m.attr("POSTERIOR_RUN") = kPosteriorRun;
  m.def("calendar_forward", calendar_forward);
  m.def("calendar_backward", calendar_backward);
  m.def("likelihood_forward", likelihood_forward);
  m.def("likelihood_backward", likelihood_backward);
  m.def("prior_forward", prior_forward);
  m.def("prior_backward", prior_backward);
  m.def("effects_forward", effects_forward);
  m.def("effects_backward", effects_backward);
}

}  // namespace causalmmm
