// What every instruction set provides for the edge operators, and the layout of its scratch memory.
#pragma once

#include <cstddef>

#include "edge/edge.h"

namespace causalmmm {

constexpr int kTile = 96;  // edges at a time: their layers stay in the second-level cache
constexpr int kScorePad = 16;  // rows of scores and of the gradient of features are a multiple of this

inline std::int64_t padded(std::int64_t count) {
  return (count + kScorePad - 1) / kScorePad * kScorePad;
}

// Weights as products want them: the second operand row by row, padded with zeros.
struct EdgeWeights {
  const float *w2t, *w3t, *w4t;  // [in, out]
  const float* wft;              // [features, width]
  const float* wf;               // [width, padded features]
  const float* wot;              // [width, padded types]
};

// Gradients of weights, summed over one part of the stores; wf as [features, width].
struct EdgeSums {
  float *w2, *b2, *wf, *w3, *w4, *b4, *wo, *bo;
};

// Room for one tile.
struct Tile {
  int rows = 0;
  std::int64_t sender[kTile], receiver[kTile];  // rows of node arrays
  std::int64_t pair[kTile];                     // rows of edge arrays
  float mean1[kTile], sd1[kTile], mean2[kTile], sd2[kTile];
  float *inner1, *state1, *inner2, *state2, *grad, *lower;  // [kTile, width]
  float* features;                                          // [kTile, features]
  float* below;  // its gradient                               [kTile, padded features]
  float* scores;                                            // [kTile, padded types]
};

struct EdgeKernels {
  // Stores [begin, end).
  void (*forward)(const EdgeProblem&, const EdgeWeights&, const EdgeResults&, Tile&,
                  std::int64_t begin, std::int64_t end);
  void (*backward)(const EdgeProblem&, const EdgeWeights&, const EdgeResults&, const EdgeIncoming&,
                   const EdgeGradients&, const EdgeSums&, Tile&, std::int64_t begin,
                   std::int64_t end);
};

extern const EdgeKernels kPortableEdges;
extern const EdgeKernels kAvx2Edges;
extern const EdgeKernels kAvx512Edges;

}  // namespace causalmmm
