// Ridge regression of several outcomes on the columns of several senders, for one store, in vectors.
// Included once per instruction set, after CAUSALMMM_WIDTH is set.
#pragma once

#include "common/series.h"
#include "common/whitening.h"

namespace causalmmm {
namespace {

// Rows of the design lie in time; a row holds the columns of all senders, sender after sender, then
// the outcomes. Outcomes (receivers) are lanes from here on.
struct Regression {
  std::int64_t rows, senders, per_sender, wide, outcomes;
  std::int64_t stride, lanes, row, block_stride;  // padded: columns, outcomes, both, a sender's columns
  float *design;                 // [rows, row]
  float *gram, *white;           // [wide, stride]
  float *cross, *half, *weight;  // [wide, lanes]
  float *block, *block_white;    // [block_stride, block_stride]
  float *product;                // [per_sender, lanes]
  float *whitening;

  Regression(Pieces& pieces, std::int64_t row_count, std::int64_t sender_count,
             std::int64_t columns_each, std::int64_t outcome_count)
      : rows(row_count), senders(sender_count), per_sender(columns_each),
        wide(sender_count * columns_each), outcomes(outcome_count), stride(multiple(wide, kBlock)),
        lanes(multiple(outcome_count, kWidth)), row(stride + multiple(outcome_count, kBlock)),
        block_stride(multiple(columns_each, kBlock)) {
    design = pieces.take(rows * row);
    gram = pieces.take(wide * stride);
    white = pieces.take(wide * stride + block_stride);
    cross = pieces.take(wide * lanes);
    half = pieces.take(wide * lanes);
    weight = pieces.take(wide * lanes);
    block = pieces.take(block_stride * block_stride);
    block_white = pieces.take(block_stride * block_stride);
    product = pieces.take(per_sender * lanes);
    whitening = pieces.take(whitening_scratch(stride));
  }

  // Lower triangle of the columns' products with each other, and all products with the outcomes.
  void multiply() const {
    for (std::int64_t c = 0; c < wide; c += kBlock) {
      matmul({design + c, 1, row}, wide - c, design + c, row, rows, gram + c * stride + c, stride,
             kBlock, false);
    }
    matmul({design, 1, row}, wide, design + stride, row, rows, cross, lanes, lanes, false);
  }

  // half = W cross and weight = W' W cross, with W W' the inverse of `gram` + ridge, which is lost.
  void solve(float ridge) const {
    for (std::int64_t k = 0; k < wide; ++k) gram[k * stride + k] += ridge;
    whiten(gram, white, wide, stride, whitening);
    for (std::int64_t c = 0; c < block_stride; c += kWidth) {
      store(white + wide * stride + c, Floats{}, kWidth);
    }
    matmul({white, stride, 1}, wide, cross, lanes, wide, half, lanes, lanes, false);
    matmul({white, 1, stride}, wide, half, lanes, wide, weight, lanes, lanes, false);
  }

  // The group statistic b' P^-1 b of each outcome's coefficients b of a sender, P their block of
  // the inverse, which is left in `diagonal` [per_sender].
  void group(std::int64_t sender, float* statistic, float* diagonal) const {
    const std::int64_t first = sender * per_sender;
    const float* columns = white + first * stride + first;
    matmul({columns, 1, stride}, per_sender, columns, stride, wide - first, block, block_stride,
           block_stride, false);
    for (std::int64_t k = 0; k < per_sender; ++k) diagonal[k] = block[k * block_stride + k];
    whiten(block, block_white, per_sender, block_stride, whitening);
    matmul({block_white, block_stride, 1}, per_sender, weight + first * lanes, lanes, per_sender,
           product, lanes, lanes, false);
    for (std::int64_t j = 0; j < lanes; j += kWidth) {
      Floats total{};
      for (std::int64_t k = 0; k < per_sender; ++k) {
        const Floats x = load(product + k * lanes + j, kWidth);
        total += x * x;
      }
      store(statistic + j, total, kWidth);
    }
  }
};

}  // namespace
}  // namespace causalmmm
