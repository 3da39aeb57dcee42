// What every instruction set provides for the edge operators, and the layout of its scratch memory.
#pragma once

#include <cstddef>

#include "edge/edge.h"

namespace causalmmm {

constexpr int kTile = 96;  // edges at a time: their layers stay in the second-level cache
constexpr int kRowPad = 16;  // rows of logits and of the features' gradient: a multiple of this

inline std::int64_t padded(std::int64_t count) {
  return (count + kRowPad - 1) / kRowPad * kRowPad;
}

// Weights in the layout of a product's right-hand side: dense rows, padded with zeros.
struct EdgeWeights {
  const float *w2t, *w3t, *w4t;  // [in, out]
  const float* wft;              // [features, width]
  const float* wf;               // [width, padded features]
  const float* wot;              // [width, padded types]
};

// Gradients of weights, partial sums over some of the stores; wf as [features, width].
struct EdgeSums {
  float *w2, *b2, *wf, *w3, *w4, *b4, *wo, *bo;
};

// Scratch memory of one tile: its edges, and for each of them the layers' results and gradients.
struct Tile {
  int rows = 0;
  std::int64_t sender[kTile], receiver[kTile];  // rows of node arrays
  std::int64_t pair[kTile];                     // rows of edge arrays
  float mean1[kTile], sd1[kTile], mean2[kTile], sd2[kTile];
  float *inner1, *state1, *inner2, *state2;  // [kTile, width], first layer and result of each pass
  float *grad, *d_inner;                     // [kTile, width], gradients of the two
  float* features;                           // [kTile, features]
  float* d_features;                         // [kTile, padded features]
  float* logits;  // [kTile, padded types], the network's, without bias; backward: their gradient
};

struct EdgeKernels {
  // Stores [begin, end).
  void (*forward)(const EdgeProblem&, const EdgeWeights&, const EdgeOutputs&, Tile&,
                  std::int64_t begin, std::int64_t end);
  void (*backward)(const EdgeProblem&, const EdgeWeights&, const EdgeOutputs&,
                   const EdgeOutputGradients&, const EdgeGradients&, const EdgeSums&, Tile&,
                   std::int64_t begin, std::int64_t end);
  static const EdgeKernels kPortable, kAvx2, kAvx512;
};

}  // namespace causalmmm
