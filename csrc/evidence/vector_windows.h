// Window statistics, one store after another; engine/evidence/window_stats.py has the formulas.
#pragma once

#include "evidence/evidence_kernels.h"
#include "evidence/vector_regression.h"

namespace causalmmm {
namespace {

float at_least_two(float count) { return count > 2.0f ? count : 2.0f; }
float bounded(float v, float limit) { return v < -limit ? -limit : (v > limit ? limit : v); }

struct WindowStatistics {
  const WindowProblem& p;
  Regression fit;
  float *used;             // [T - L], 1 where a row is explained
  float *series;           // [N, T], standardised
  float *floor;            // [N], the spread that series are divided by
  float *explained;        // [lanes], rows of every receiver that are explained
  float *noise;            // [lanes], its variance
  float *group, *same;     // [N, lanes], group statistics; products within a step
  float *diagonal;         // [N, L], of the coefficients' covariance at unit noise
  float n = 0.0f;          // rows that are explained
  const float *residual = nullptr, *received = nullptr, *active = nullptr;  // of the present store
  float *edges = nullptr, *node_features = nullptr;

  WindowStatistics(const WindowProblem& problem, Pieces& pieces)
      : p(problem), fit(pieces, p.steps - p.lags, p.nodes, p.lags, p.nodes) {
    used = pieces.take(p.steps);
    series = pieces.take(p.nodes * p.steps);
    floor = pieces.take(p.nodes);
    explained = pieces.take(fit.lanes);
    noise = pieces.take(fit.lanes);
    group = pieces.take(p.nodes * fit.lanes);
    same = pieces.take(p.nodes * fit.lanes);
    diagonal = pieces.take(p.nodes * p.lags);
  }

  void visit(std::int64_t b) {
    const std::int64_t values = p.nodes * p.steps;
    residual = p.residual + b * values;
    received = p.received + b * values;
    active = p.active + b * values;
    edges = p.edges + b * p.nodes * p.nodes * (2 * p.lags + 5);
    node_features = p.node_features + b * p.nodes * (p.lags + 5);
    const std::uint8_t* mask = p.context_mask + b * p.steps;
    n = at_least_two(rows_with_lags(mask, p.steps, p.lags, used));
    float context = 0.0f;
    for (std::int64_t t = 0; t < p.steps; ++t) context += mask[t];
    for (std::int64_t i = 0; i < p.nodes; ++i) {
      describe(i, mask, at_least_two(context), p.spread[b * p.nodes + i], p.rows[b * p.nodes + i]);
    }
    fill_design();
    fit.multiply();
    matmul({fit.design + fit.stride, 1, fit.row}, p.nodes, fit.design + fit.stride, fit.row, fit.rows,
           same, fit.lanes, fit.lanes, false);
    fit.solve(p.scales.ridge);
    estimate_noise();
    for (std::int64_t i = 0; i < p.nodes; ++i) {
      fit.group(i, group + i * fit.lanes, diagonal + i * p.lags);
    }
    write_features();
  }

 private:
  float* feature(std::int64_t node) const { return node_features + node * (p.lags + 5) + p.lags; }

  // The node's standardised series, and what is known of it without the others.
  void describe(std::int64_t i, const std::uint8_t* mask, float context, float& spread, float& rows) {
    const float *x = residual + i * p.steps, *y = received + i * p.steps, *on = active + i * p.steps;
    float square = 0.0f, received_square = 0.0f, count = 0.0f;
    for (std::int64_t t = 0; t < p.steps; ++t) {
      if (!mask[t]) continue;
      square += x[t] * x[t];
      received_square += y[t] * y[t];
      count += on[t];
    }
    const float sent = __builtin_sqrtf(square / context);
    rows = at_least_two(count);
    spread = __builtin_sqrtf(received_square / rows);
    floor[i] = sent < p.scales.flat ? p.scales.flat : sent;
    float third = 0.0f, fourth = 0.0f;
    for (std::int64_t t = 0; t < p.steps; ++t) {
      const float v = bounded(x[t] / floor[i], p.scales.clip), v2 = v * v;
      series[i * p.steps + t] = v;
      third += mask[t] ? v2 * v : 0.0f;
      fourth += mask[t] ? v2 * v2 : 0.0f;
    }
    feature(i)[0] = bounded(third / context, 4.0f) / 2;
    feature(i)[1] = __builtin_log1pf(fourth / context);
    feature(i)[3] = __builtin_logf(sent < 1e-4f ? 1e-4f : sent) + 1.5f;
    feature(i)[4] = __builtin_logf(n / 100);
  }

  // Rows that are not used stay zero. The last lag of a series comes last.
  void fill_design() {
    for (std::int64_t i = 0; i < p.nodes; ++i) explained[i] = 0.0f;
    clear(fit.design, fit.rows, fit.row, fit.row);
    for (std::int64_t t = 0; t < fit.rows; ++t) {
      if (used[t] == 0.0f) continue;
      float* row = fit.design + t * fit.row;
      for (std::int64_t i = 0; i < p.nodes; ++i) {
        const float* past = series + i * p.steps + t;
        for (std::int64_t l = 0; l < p.lags; ++l) row[i * p.lags + l] = past[l];
        const std::int64_t now = i * p.steps + t + p.lags;
        row[fit.stride + i] = bounded(received[now] / floor[i], p.scales.clip) * active[now];
        explained[i] += active[now];
      }
    }
  }

  void estimate_noise() {
    Floats squares{};
    for (std::int64_t k = 0; k < fit.wide * fit.stride; k += kWidth) {
      const Floats v = load(fit.white + k, kWidth);
      squares += v * v;
    }
    const float freedom = static_cast<float>(fit.wide) - p.scales.ridge * sum(squares);
    for (std::int64_t j = 0; j < p.nodes; ++j) {
      float left = same[j * fit.lanes + j];
      for (std::int64_t k = 0; k < fit.wide; ++k) {
        left -= fit.half[k * fit.lanes + j] * fit.half[k * fit.lanes + j];
      }
      const float rows = at_least_two(explained[j]), free = rows - freedom;
      noise[j] = (left < 1e-6f ? 1e-6f : left) / (free < 0.2f * rows ? 0.2f * rows : free);
      feature(j)[2] = __builtin_sqrtf(noise[j]);
    }
  }

  void write_features() const {
    const std::int64_t lags = p.lags, width = 2 * lags + 5;
    const float root_n = __builtin_sqrtf(n), root_lags = __builtin_sqrtf(static_cast<float>(lags));
    const auto halved = [&](float v) { return bounded(v, p.scales.clip) / 2; };
    for (std::int64_t i = 0; i < p.nodes; ++i) {
      for (std::int64_t j = 0; j < p.nodes; ++j) {
        float* f = edges + (i * p.nodes + j) * width;
        float total = 0.0f;
        for (std::int64_t l = 0; l < lags; ++l) {
          const std::int64_t at = (i * lags + l) * fit.lanes + j;
          f[l] = halved(fit.weight[at] / __builtin_sqrtf(diagonal[i * lags + l] * noise[j]));
          f[lags + l] = halved(fit.cross[at] / root_n);
          total += fit.weight[at];
          if (i == j) node_features[i * (lags + 5) + l] = fit.cross[at] / n;
        }
        f[2 * lags] = halved(same[i * fit.lanes + j] / root_n);
        f[2 * lags + 1] = halved(__builtin_sqrtf(group[i * fit.lanes + j] / noise[j]) - root_lags);
        f[2 * lags + 2] = halved(__builtin_sqrtf(group[j * fit.lanes + i] / noise[i]) - root_lags);
        f[2 * lags + 3] = halved(total * root_n / root_lags);
        f[2 * lags + 4] = halved(feature(i)[4]);
      }
    }
  }
};

std::int64_t window_scratch(const WindowProblem& p) {
  Pieces pieces{nullptr};
  WindowStatistics statistics(p, pieces);
  return pieces.used;
}

void window_statistics(const WindowProblem& p, float* scratch, std::int64_t begin, std::int64_t end) {
  Pieces pieces{scratch};
  WindowStatistics statistics(p, pieces);
  for (std::int64_t b = begin; b < end; ++b) statistics.visit(b);
}

}  // namespace
}  // namespace causalmmm
