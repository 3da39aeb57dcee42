// Edge operators on a CPU: all-pairs message passing and the sampling of edge types, in float32.
// Plain functions on raw pointers: no torch and no Python below this header.
//
//   e_ij = LN(elu(W2 elu(sender1_i + receiver1_j + Wf f_ij) + b2)),  mean over senders i != j
//   q_ij = LN(elu(W4 elu(sender2_i + receiver2_j + W3 e_ij) + b4))
//   l_ij = log_prior_ij + Wo q_ij + bo,   z_ij = softmax((l_ij + gumbel_ij) / temperature)
//
// A tile of edges passes through all layers in cache, and of each edge nothing but its state e reaches
// memory, where that is kept; backward recomputes the rest. All arrays are dense; edge arrays are [stores, sender, receiver, ..].
#pragma once

#include <cstdint>

#include "common/cpu_level.h"

namespace causalmmm {

constexpr int kEdgeWidthStep = 16;  // widths must be a multiple of this
constexpr int kMaxEdgeTypes = 16;

struct EdgeProblem {
  std::int64_t stores = 0, nodes = 0, width = 0, features = 0, types = 0;
  // first pass; features and wf are null where there are none
  const float *sender1 = nullptr, *receiver1 = nullptr, *w2 = nullptr, *b2 = nullptr;
  const float *edge_features = nullptr, *wf = nullptr;
  // what the first pass kept of each edge, [stores, sender, receiver, width] and [.., 2]: its state e,
  // and mean and 1 / standard deviation of what LayerNorm made it from. Given to edge_sample (e alone)
  // and to the backward pass of edge_mean, they are not computed again; else null
  const float *states = nullptr, *moments = nullptr;
  // second pass: sender2 is null for edge_mean
  const float *sender2 = nullptr, *receiver2 = nullptr, *w3 = nullptr, *w4 = nullptr;
  const float *b4 = nullptr, *wo = nullptr, *bo = nullptr;
  // sampling: the prior is [stores, nodes, nodes, types], or one for all stores
  const float* log_prior = nullptr;
  bool prior_per_store = false;
  float temperature = 1.0f;
  bool noisy = false, hard = false;
  std::uint64_t seed = 0;
  const std::int64_t* store_ids = nullptr;  // [stores], which key the noise
};

// Outputs; of a backward pass, those that the forward pass computed (z and logits).
struct EdgeOutputs {
  float* mean = nullptr;                            // edge_mean
  float *states = nullptr, *moments = nullptr;  // the same, or null: see EdgeProblem
  float *z = nullptr, *logits = nullptr, *kl = nullptr;
};

// Gradients of the outputs; null counts as zero.
struct EdgeOutputGradients {
  const float *mean = nullptr, *states = nullptr;
  const float *z = nullptr, *logits = nullptr, *kl = nullptr;
};

// Gradients of the inputs. Those of weights are sums; those of features and log_prior, [stores,
// nodes, nodes, ..], may be null. wf is [features, width], the transpose of the weight. Where
// edge_sample was given states, it has their gradient, and none of the first pass's arguments.
struct EdgeGradients {
  float* states = nullptr;
  float *sender1 = nullptr, *receiver1 = nullptr, *w2 = nullptr, *b2 = nullptr;
  float *edge_features = nullptr, *wf = nullptr;
  float *sender2 = nullptr, *receiver2 = nullptr, *w3 = nullptr, *w4 = nullptr;
  float *b4 = nullptr, *wo = nullptr, *bo = nullptr;
  float* log_prior = nullptr;
};

// Null on success, else a sentence that names the wrong argument.
const char* check(const EdgeProblem& problem);

// With sender2 null these are edge_mean, else edge_sample. Sums over edges go in an order that the
// sizes alone decide, so that `threads` does not change a bit.
void edges_forward_cpu(const EdgeProblem& problem, const EdgeOutputs& outputs, int threads,
                       CpuLevel level);
void edges_backward_cpu(const EdgeProblem& problem, const EdgeOutputs& outputs,
                        const EdgeOutputGradients& output_gradients,
                        const EdgeGradients& gradients, int threads, CpuLevel level);

}  // namespace causalmmm
