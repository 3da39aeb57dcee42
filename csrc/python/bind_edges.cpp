// Edge operators: tuples of addresses, 0 where absent.
#include "python/arguments.h"
#include "edge/edge.h"

namespace causalmmm {
namespace {

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

}  // namespace

void bind_edges(py::module_& m) {
  m.attr("EDGE_WIDTH_STEP") = kEdgeWidthStep;
  m.attr("MAX_EDGE_TYPES") = kMaxEdgeTypes;
  m.def("edge_forward", edge_forward);
  m.def("edge_backward", edge_backward);
}

}  // namespace causalmmm
