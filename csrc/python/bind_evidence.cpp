// Evidence: sizes, scales and addresses, in the order of evidence.h.
#include "python/arguments.h"
#include "evidence/evidence.h"

namespace causalmmm {
namespace {

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

// `scales`: least and most variance, least noise, least gamma, then the problem's own.
template <std::size_t kCount>
RelevanceRules rules_of(const std::array<double, kCount>& scales, std::int64_t rounds) {
  return {scales[0], scales[1], scales[2], scales[3], rounds};
}

void lag_relevance(const std::array<std::int64_t, 5>& sizes, const std::array<double, 6>& scales,
                   const std::array<std::uintptr_t, 4>& inputs,
                   const std::array<std::uintptr_t, 4>& outputs, int threads) {
  LagRelevanceProblem p;
  p.stores = sizes[0], p.nodes = sizes[1], p.steps = sizes[2], p.lags = sizes[3];
  p.rules = rules_of(scales, sizes[4]);
  p.ar_variance = scales[4], p.most_precision_ratio = scales[5];
  p.series = pointer<double>(inputs[0]), p.used = pointer<double>(inputs[1]);
  p.outcome = pointer<double>(inputs[2]), p.freedom = pointer<double>(inputs[3]);
  p.variance = pointer<double>(outputs[0]), p.noise = pointer<double>(outputs[1]);
  p.factor = pointer<double>(outputs[2]), p.z_score = pointer<double>(outputs[3]);
  py::gil_scoped_release release;
  lag_relevance_cpu(sound(p), threads, cpu_level);
}

void bank_relevance(const std::array<std::int64_t, 6>& sizes, const std::array<double, 5>& scales,
                    const std::vector<std::int64_t>& receivers,
                    const std::array<std::uintptr_t, 4>& inputs,
                    const std::array<std::uintptr_t, 4>& outputs, int threads) {
  BankRelevanceProblem p;
  p.stores = sizes[0], p.nodes = sizes[1], p.components = sizes[2], p.steps = sizes[3];
  p.ar_lags = sizes[4], p.regressions = static_cast<std::int64_t>(receivers.size());
  p.rules = rules_of(scales, sizes[5]);
  p.calendar_share = scales[4];
  p.receivers = receivers.data();
  p.bank = pointer<double>(inputs[0]), p.received = pointer<double>(inputs[1]);
  p.used = pointer<double>(inputs[2]), p.now = pointer<std::uint8_t>(inputs[3]);
  p.factor = pointer<double>(outputs[0]), p.share = pointer<double>(outputs[1]);
  p.z_score = pointer<double>(outputs[2]), p.weight = pointer<double>(outputs[3]);
  py::gil_scoped_release release;
  bank_relevance_cpu(sound(p), threads, cpu_level);
}

}  // namespace

void bind_evidence(py::module_& m) {
  m.attr("RESPONSE_STATISTICS") = kResponseStatistics;
  m.def("window_statistics", window_statistics);
  m.def("response_terms", response_terms);
  m.def("mean_field", mean_field);
  m.def("lag_relevance", lag_relevance);
  m.def("bank_relevance", bank_relevance);
}

}  // namespace causalmmm
