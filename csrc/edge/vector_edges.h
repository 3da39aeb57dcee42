// The edge operators tile by tile, in vectors. Included once per instruction set, after CAUSALMMM_WIDTH and
// CAUSALMMM_LEVEL (the table to define) are set.
#pragma once

#include "edge/edge_kernels.h"
#include "edge/edge_sampling.h"
#include "common/matmul.h"

namespace causalmmm {
namespace {

constexpr float kNormEps = 1e-5f;

template <int K = kWidth / 2>
CAUSALMMM_INLINE float total(Floats v) {
  if constexpr (K == 0) {
    return v[0];
  } else {
    return total<K / 2>(v + earlier<K>(v));
  }
}

CAUSALMMM_INLINE Floats elu(Floats x) {
  const Floats negative = exp2_of_negative((x > 0.0f ? Floats{} : x) * kLog2E) - 1.0f;
  return x > 0.0f ? x : negative;
}

// Its slope, from its value.
CAUSALMMM_INLINE Floats elu_slope(Floats value) { return (value > 0.0f ? Floats{} : value) + 1.0f; }

CAUSALMMM_INLINE Floats at(const float* p) { return load(p, kWidth); }
CAUSALMMM_INLINE void put(float* p, Floats v) { store(p, v, kWidth); }
CAUSALMMM_INLINE void add(float* p, Floats v) { store(p, load(p, kWidth) + v, kWidth); }
void clear(float* p, std::int64_t count) { __builtin_memset(p, 0, sizeof(float) * count); }

// The edges of stores [begin, end), tile after tile, without self pairs.
class EdgeTiles {
 public:
  EdgeTiles(std::int64_t nodes, std::int64_t begin, std::int64_t end)
      : nodes_(nodes), shop_(begin), end_(end) {}

  bool next(Tile& tile) {
    tile.rows = 0;
    while (shop_ < end_ && tile.rows < kTile) {
      if (sender_ != receiver_) {
        const std::int64_t from = shop_ * nodes_ + sender_;
        tile.sender[tile.rows] = from;
        tile.receiver[tile.rows] = shop_ * nodes_ + receiver_;
        tile.pair[tile.rows++] = from * nodes_ + receiver_;
      }
      if (++receiver_ == nodes_) receiver_ = 0, ++sender_;
      if (sender_ == nodes_) sender_ = 0, ++shop_;
    }
    return tile.rows > 0;
  }

 private:
  std::int64_t nodes_, shop_, end_, sender_ = 0, receiver_ = 0;
};

Strided rows_of(const float* x, std::int64_t width) { return {x, width, 1}; }
Strided columns_of(const float* x, std::int64_t width) { return {x, 1, width}; }

// inner = elu(sender + receiver + inner), or, unless `keep`, inner = elu(sender + receiver)
void add_nodes(const Tile& tile, const float* sender, const float* receiver, float* inner,
               std::int64_t width, bool keep) {
  for (int t = 0; t < tile.rows; ++t) {
    const float* s = sender + tile.sender[t] * width;
    const float* r = receiver + tile.receiver[t] * width;
    float* x = inner + t * width;
    for (std::int64_t h = 0; h < width; h += kWidth) {
      put(x + h, elu(at(s + h) + at(r + h) + (keep ? at(x + h) : Floats{})));
    }
  }
}

// x = LN(elu(x + bias)); also each row's mean and standard deviation before the norm. Several short
// loops keep more rows under way than one long one, in which each would wait for its two sums.
void normalise(int rows, float* x, const float* bias, std::int64_t width, float* mean, float* sd) {
  const float share = 1.0f / static_cast<float>(width);
  for (int t = 0; t < rows; ++t) {
    float* row = x + t * width;
    Floats sum = {};
    for (std::int64_t h = 0; h < width; h += kWidth) {
      const Floats value = elu(at(row + h) + at(bias + h));
      put(row + h, value);
      sum += value;
    }
    mean[t] = total(sum) * share;
  }
  for (int t = 0; t < rows; ++t) {
    float* row = x + t * width;
    Floats square = {};
    for (std::int64_t h = 0; h < width; h += kWidth) {
      const Floats centred = at(row + h) - mean[t];
      put(row + h, centred);
      square += centred * centred;
    }
    sd[t] = __builtin_sqrtf(total(square) * share + kNormEps);
  }
  for (int t = 0; t < rows; ++t) {
    float* row = x + t * width;
    const float scale = 1.0f / sd[t];
    for (std::int64_t h = 0; h < width; h += kWidth) put(row + h, at(row + h) * scale);
  }
}

// grad, the gradient of the state, becomes that of the elu's input; column sums are added to d_bias
void normalise_backward(int rows, float* grad, const float* state, const float* mean,
                        const float* sd, std::int64_t width, float* d_bias) {
  const float share = 1.0f / static_cast<float>(width);
  float shift[kTile], tilt[kTile];
  for (int t = 0; t < rows; ++t) {
    Floats sum = {}, product = {};
    for (std::int64_t h = t * width; h < (t + 1) * width; h += kWidth) {
      sum += at(grad + h);
      product += at(grad + h) * at(state + h);
    }
    shift[t] = total(sum) * share, tilt[t] = total(product) * share;
  }
  for (int t = 0; t < rows; ++t, grad += width, state += width) {
    const float scale = 1.0f / sd[t];
    for (std::int64_t h = 0; h < width; h += kWidth) {
      const Floats y = at(state + h);
      const Floats slope = elu_slope(y * sd[t] + mean[t]);
      const Floats d = (at(grad + h) - shift[t] - y * tilt[t]) * scale * slope;
      put(grad + h, d);
      add(d_bias + h, d);
    }
  }
}

// d_inner, the gradient of the first layer's elu, becomes that of the elu's input; rows are added up
// into the gradients of their sender and receiver
void nodes_backward(const Tile& tile, float* d_inner, const float* inner, std::int64_t width,
                    float* d_sender, float* d_receiver) {
  for (int t = 0; t < tile.rows; ++t, d_inner += width, inner += width) {
    float* s = d_sender + tile.sender[t] * width;
    float* r = d_receiver + tile.receiver[t] * width;
    for (std::int64_t h = 0; h < width; h += kWidth) {
      const Floats d = at(d_inner + h) * elu_slope(at(inner + h));
      put(d_inner + h, d);
      add(s + h, d);
      add(r + h, d);
    }
  }
}

// The network's layers on one tile, forward and backward.
struct Layers {
  const EdgeProblem& p;
  const EdgeWeights& w;
  Tile& tile;
  const std::int64_t width = p.width;

  // Rows of the tile from or to an edge array [.., width].
  void read_rows(const float* from, float* rows) const {
    for (int t = 0; t < tile.rows; ++t) {
      const float* row = from + tile.pair[t] * width;
      for (std::int64_t h = 0; h < width; h += kWidth) put(rows + t * width + h, at(row + h));
    }
  }
  void write_rows(const float* rows, float* to) const {
    for (int t = 0; t < tile.rows; ++t) {
      float* row = to + tile.pair[t] * width;
      for (std::int64_t h = 0; h < width; h += kWidth) put(row + h, at(rows + t * width + h));
    }
  }

  void first_layer() {
    if (p.features) {
      for (int t = 0; t < tile.rows; ++t) {
        __builtin_memcpy(tile.features + t * p.features,
                         p.edge_features + tile.pair[t] * p.features, sizeof(float) * p.features);
      }
      matmul(rows_of(tile.features, p.features), tile.rows, w.wft, p.features, tile.inner1, width,
             false);
    }
    add_nodes(tile, p.sender1, p.receiver1, tile.inner1, width, p.features > 0);
  }

  void first_pass() {
    first_layer();
    matmul(rows_of(tile.inner1, width), tile.rows, w.w2t, width, tile.state1, width, false);
    normalise(tile.rows, tile.state1, p.b2, width, tile.mean1, tile.sd1);
  }

  void keep(const EdgeOutputs& out) const {
    write_rows(tile.state1, out.states);
    for (int t = 0; t < tile.rows; ++t) {
      out.moments[2 * tile.pair[t]] = tile.mean1[t];
      out.moments[2 * tile.pair[t] + 1] = 1.0f / tile.sd1[t];
    }
  }

  // What first_pass leaves behind, from what was kept.
  void restore() {
    first_layer();
    read_rows(p.states, tile.state1);
    for (int t = 0; t < tile.rows; ++t) {
      tile.mean1[t] = p.moments[2 * tile.pair[t]];
      tile.sd1[t] = 1.0f / p.moments[2 * tile.pair[t] + 1];
    }
  }

  // The states of the first pass, for the second.
  void edge_states() {
    if (p.states) {
      read_rows(p.states, tile.state1);
    } else {
      first_pass();
    }
  }

  void second_pass() {
    matmul(rows_of(tile.state1, width), tile.rows, w.w3t, width, tile.inner2, width, false);
    add_nodes(tile, p.sender2, p.receiver2, tile.inner2, width, true);
    matmul(rows_of(tile.inner2, width), tile.rows, w.w4t, width, tile.state2, width, false);
    normalise(tile.rows, tile.state2, p.b4, width, tile.mean2, tile.sd2);
  }

  // From tile.logits to tile.grad, the gradient of state1.
  void second_pass_backward(const EdgeGradients& g, const EdgeSums& sums) {
    const std::int64_t pad = padded(p.types);
    matmul(columns_of(tile.logits, pad), p.types, tile.state2, tile.rows, sums.wo, width, true);
    for (int t = 0; t < tile.rows; ++t) {
      for (int k = 0; k < p.types; ++k) sums.bo[k] += tile.logits[t * pad + k];
    }
    matmul(rows_of(tile.logits, pad), tile.rows, p.wo, p.types, tile.grad, width, false);
    normalise_backward(tile.rows, tile.grad, tile.state2, tile.mean2, tile.sd2, width, sums.b4);
    matmul(columns_of(tile.grad, width), width, tile.inner2, tile.rows, sums.w4, width, true);
    matmul(rows_of(tile.grad, width), tile.rows, p.w4, width, tile.d_inner, width, false);
    nodes_backward(tile, tile.d_inner, tile.inner2, width, g.sender2, g.receiver2);
    matmul(columns_of(tile.d_inner, width), width, tile.state1, tile.rows, sums.w3, width, true);
    matmul(rows_of(tile.d_inner, width), tile.rows, p.w3, width, tile.grad, width, false);
  }

  // tile.grad, the gradient of state1, from those of the mean and of what was kept.
  void state_gradient(const EdgeOutputGradients& d_out) {
    const float share = 1.0f / static_cast<float>(p.nodes - 1);
    if (d_out.states) {
      read_rows(d_out.states, tile.grad);
    } else {
      clear(tile.grad, tile.rows * width);
    }
    if (!d_out.mean) return;
    for (int t = 0; t < tile.rows; ++t) {
      const float* from = d_out.mean + tile.receiver[t] * width;
      for (std::int64_t h = 0; h < width; h += kWidth) {
        add(tile.grad + t * width + h, at(from + h) * share);
      }
    }
  }

  // From tile.grad, the gradient of state1, to those of the first pass's inputs.
  void first_pass_backward(const EdgeGradients& g, const EdgeSums& sums) {
    normalise_backward(tile.rows, tile.grad, tile.state1, tile.mean1, tile.sd1, width, sums.b2);
    matmul(columns_of(tile.grad, width), width, tile.inner1, tile.rows, sums.w2, width, true);
    matmul(rows_of(tile.grad, width), tile.rows, p.w2, width, tile.d_inner, width, false);
    nodes_backward(tile, tile.d_inner, tile.inner1, width, g.sender1, g.receiver1);
    if (!p.features) return;
    matmul(columns_of(tile.features, p.features), p.features, tile.d_inner, tile.rows, sums.wf, width,
           true);
    if (!g.edge_features) return;
    const std::int64_t pad = padded(p.features);
    matmul(rows_of(tile.d_inner, width), tile.rows, w.wf, width, tile.d_features, pad, false);
    for (int t = 0; t < tile.rows; ++t) {
      float* to = g.edge_features + tile.pair[t] * p.features;
      for (std::int64_t f = 0; f < p.features; ++f) to[f] = tile.d_features[t * pad + f];
    }
  }
};

// Clears the self pairs of an edge array [stores, nodes, nodes, width].
void clear_self(float* edges, std::int64_t nodes, std::int64_t width, std::int64_t begin,
                std::int64_t end) {
  for (std::int64_t node = begin * nodes; node < end * nodes; ++node) {
    clear(edges + (node * nodes + node % nodes) * width, width);
  }
}

void mean_forward(Layers& layers, const EdgeOutputs& outputs, std::int64_t begin,
                  std::int64_t end) {
  const EdgeProblem& p = layers.p;
  float* mean = outputs.mean;
  if (outputs.states) {
    clear_self(outputs.states, p.nodes, p.width, begin, end);
    clear_self(outputs.moments, p.nodes, 2, begin, end);
  }
  const std::int64_t width = p.width, rows = (end - begin) * p.nodes;
  float* out = mean + begin * p.nodes * width;
  clear(out, rows * width);
  EdgeTiles tiles(p.nodes, begin, end);
  while (tiles.next(layers.tile)) {
    layers.first_pass();
    if (outputs.states) layers.keep(outputs);
    for (int t = 0; t < layers.tile.rows; ++t) {
      float* to = mean + layers.tile.receiver[t] * width;
      const float* from = layers.tile.state1 + t * width;
      for (std::int64_t h = 0; h < width; h += kWidth) add(to + h, at(from + h));
    }
  }
  const float share = 1.0f / static_cast<float>(p.nodes - 1);
  for (std::int64_t k = 0; k < rows * width; k += kWidth) put(out + k, at(out + k) * share);
}

void sample_forward(Layers& layers, const EdgeOutputs& out, std::int64_t begin, std::int64_t end) {
  const EdgeProblem& p = layers.p;
  for (std::int64_t shop = begin; shop < end; ++shop) {
    for (std::int64_t node = 0; node < p.nodes; ++node) {
      const std::int64_t self = ((shop * p.nodes + node) * p.nodes + node) * p.types;
      for (std::int64_t k = 0; k < p.types; ++k) {
        out.z[self + k] = k == 0 ? 1.0f : 0.0f;
        out.logits[self + k] = 0.0f;
      }
    }
  }
  constexpr int kStores = 1 + kTile / 2;  // a tile's edges are of no more stores than this
  double kl[kStores] = {};
  EdgeTiles tiles(p.nodes, begin, end);
  std::int64_t first_shop = begin;  // the store that kl[0] belongs to
  while (tiles.next(layers.tile)) {
    layers.edge_states();
    layers.second_pass();
    matmul(rows_of(layers.tile.state2, p.width), layers.tile.rows, layers.w.wot, p.width,
           layers.tile.logits, padded(p.types), false);
    sample_tile(p, layers.tile, out, kl, first_shop);
    const std::int64_t last_shop = layers.tile.pair[layers.tile.rows - 1] / (p.nodes * p.nodes);
    for (std::int64_t shop = first_shop; shop < last_shop; ++shop) {
      out.kl[shop] = static_cast<float>(kl[shop - first_shop]);
    }
    const double so_far = kl[last_shop - first_shop];
    for (double& sum : kl) sum = 0.0;
    kl[0] = so_far;
    first_shop = last_shop;
    out.kl[last_shop] = static_cast<float>(so_far);
  }
}

void forward(const EdgeProblem& p, const EdgeWeights& w, const EdgeOutputs& out, Tile& tile,
             std::int64_t begin, std::int64_t end) {
  Layers layers{p, w, tile};
  if (p.sender2) {
    sample_forward(layers, out, begin, end);
  } else {
    mean_forward(layers, out, begin, end);
  }
}

void backward(const EdgeProblem& p, const EdgeWeights& w, const EdgeOutputs& out,
              const EdgeOutputGradients& d_out, const EdgeGradients& g, const EdgeSums& sums,
              Tile& tile, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = p.width, rows = (end - begin) * p.nodes;
  for (float* to : {g.sender1, g.receiver1, g.sender2, g.receiver2}) {
    if (to) clear(to + begin * p.nodes * width, rows * width);
  }
  if (g.edge_features) {
    clear(g.edge_features + begin * p.nodes * p.nodes * p.features, rows * p.nodes * p.features);
  }
  if (g.log_prior) {
    clear(g.log_prior + begin * p.nodes * p.nodes * p.types, rows * p.nodes * p.types);
  }
  if (g.states) clear_self(g.states, p.nodes, width, begin, end);
  Layers layers{p, w, tile};
  EdgeTiles tiles(p.nodes, begin, end);
  while (tiles.next(tile)) {
    if (p.sender2) {
      layers.edge_states();
      layers.second_pass();
      sample_tile_backward(p, tile, out, d_out, g.log_prior);
      layers.second_pass_backward(g, sums);
    } else {
      if (p.states) {
        layers.restore();
      } else {
        layers.first_pass();
      }
      layers.state_gradient(d_out);
    }
    if (p.sender2 && p.states) {
      layers.write_rows(tile.grad, g.states);
    } else {
      layers.first_pass_backward(g, sums);
    }
  }
}

}  // namespace

const EdgeKernels EdgeKernels::CAUSALMMM_LEVEL = {causalmmm::forward, causalmmm::backward};

}  // namespace causalmmm
