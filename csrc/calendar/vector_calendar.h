// The calendar regression, one store after another. Included once per instruction set, after
// CAUSALMMM_WIDTH and CAUSALMMM_LEVEL (the table to define) are set.
#pragma once

#include "calendar/calendar.h"
#include "common/matmul.h"
#include "common/series.h"

namespace causalmmm {
namespace {

struct Calendar {
  const CalendarProblem& p;
  std::int64_t nodes, terms, steps, columns, lanes;  // the last two: terms and steps, padded
  float *basis;        // [T, columns]
  float *in_time;      // [terms, lanes], its transpose
  float *solver;       // [T, columns]
  float *series;       // [2 N, lanes], as receivers, then as senders; less the shared calendar
  float *level;        // [2 N, columns]: coefficients
  float *active;       // [N, lanes], 0 or 1, also 0 on padding
  float *parameters;   // [N, columns], shared coefficients
  double *gram;        // [terms, columns]
  double *inverse;     // [terms, columns]
  double *solved;      // [terms, columns]
  double *ridge;       // [terms]

  Calendar(const CalendarProblem& problem, Pieces& pieces)
      : p(problem), nodes(p.nodes), terms(p.terms), steps(p.steps), columns(multiple(p.terms, kWidth)),
        lanes(multiple(p.steps, kWidth)) {
    basis = pieces.take(steps * columns);
    in_time = pieces.take(terms * lanes);
    solver = pieces.take(steps * columns);
    series = pieces.take(2 * nodes * lanes);
    level = pieces.take(2 * nodes * columns);
    active = pieces.take(nodes * lanes);
    parameters = pieces.take(nodes * columns);
    gram = doubles(pieces, terms * columns);
    inverse = doubles(pieces, terms * columns);
    solved = doubles(pieces, terms * columns);
    ridge = doubles(pieces, terms);
    if (!pieces.memory) return;
    for (std::int64_t q = 0; q < terms; ++q) {
      const float log = p.log_ridge[q], most = kMaxLogRidge;
      ridge[q] = __builtin_exp(log < -most ? -most : (log > most ? most : log));
    }
    for (std::int64_t i = 0; i < nodes; ++i) {
      for (std::int64_t q = 0; q < terms; ++q) parameters[i * columns + q] = p.shared[i * terms + q];
    }
  }

  void forward(const CalendarOutputs& o, std::int64_t b) {
    read(b);
    solve(b, o.spread + b * terms * terms);
    project(b);
    for (std::int64_t q = 0; q < terms; ++q) {
      for (std::int64_t t = 0; t < steps; ++t) {
        o.solver[(b * terms + q) * steps + t] = solver[t * columns + q];
      }
    }
    fit();
    for (std::int64_t i = 0; i < nodes; ++i) {
      const std::int64_t row = (b * nodes + i) * steps;
      for (std::int64_t t = 0; t < steps; t += kWidth) {
        const int n = static_cast<int>(steps - t < kWidth ? steps - t : kWidth);
        const std::uint8_t* valid = p.context_mask + b * steps + t;
        const std::uint8_t* target = p.target_mask + b * steps + t;
        const Floats on = load(active + i * lanes + t, kWidth);
        Floats rows{};
        for (int k = 0; k < n; ++k) rows[k] = valid[k] | target[k] ? 1.0f : 0.0f;
        store(o.active + row + t, on, n);
        store(o.residual + row + t, load(series + i * lanes + t, kWidth) * on * rows, n);
        store(o.sent + row + t, load(series + (nodes + i) * lanes + t, kWidth), n);
      }
      for (std::int64_t q = 0; q < terms; ++q) {
        o.coefficients[(b * nodes + i) * terms + q] =
            parameters[i * columns + q] - level[i * columns + q];
      }
    }
  }

  // Adds the gradients of a store to those of its run: shared [N, Q] and log_ridge [Q].
  void backward(const CalendarOutputs& o, const CalendarGradients& g, std::int64_t b, float* shared,
                float* log_ridge) {
    read(b);
    // received series, less the shared calendar, in the first half of `series`; the second half takes
    // the gradient of the residual, then that of those series
    float* incoming = series + nodes * lanes;
    for (std::int64_t i = 0; i < nodes; ++i) {
      const std::int64_t row = (b * nodes + i) * steps;
      for (std::int64_t t = 0; t < steps; ++t) {
        const bool valid = p.context_mask[b * steps + t] | p.target_mask[b * steps + t];
        const float on = valid ? o.active[row + t] : 0.0f;
        incoming[i * lanes + t] = g.residual ? g.residual[row + t] * on : 0.0f;
      }
      for (std::int64_t t = steps; t < lanes; ++t) incoming[i * lanes + t] = 0.0f;
    }
    float* of_level = level;  // [N, columns], gradient of c
    matmul({incoming, lanes, 1}, nodes, basis, columns, steps, of_level, columns, columns, false);
    for (std::int64_t i = 0; i < nodes; ++i) {
      for (std::int64_t q = 0; q < terms; ++q) {
        const std::int64_t at = (b * nodes + i) * terms + q;
        of_level[i * columns + q] = (g.coefficients ? g.coefficients[at] : 0.0f) -
                                    of_level[i * columns + q];
      }
    }
    gradient_of_ridge(o, g, b, of_level, log_ridge);
    float* in_rows = in_time;  // [terms, lanes], the solver
    for (std::int64_t q = 0; q < terms; ++q) {
      for (std::int64_t t = 0; t < steps; ++t) {
        in_rows[q * lanes + t] = o.solver[(b * terms + q) * steps + t];
      }
    }
    matmul({of_level, columns, 1}, nodes, in_rows, lanes, terms, incoming, lanes, lanes, true);
    float* back = of_level + nodes * columns;  // [N, columns]
    matmul({incoming, lanes, 1}, nodes, basis, columns, steps, back, columns, columns, false);
    for (std::int64_t i = 0; i < nodes; ++i) {
      for (std::int64_t q = 0; q < terms; ++q) {
        const std::int64_t at = (b * nodes + i) * terms + q;
        shared[i * terms + q] += (g.coefficients ? g.coefficients[at] : 0.0f) - back[i * columns + q];
      }
    }
  }

 private:
  static double* doubles(Pieces& pieces, std::int64_t count) {
    return reinterpret_cast<double*>(pieces.take(2 * count));
  }

  // Basis in both orders; series as receivers and as senders, less the shared calendar; activity.
  void read(std::int64_t b) {
    const std::uint8_t* mask = p.context_mask + b * steps;
    for (std::int64_t t = 0; t < steps; ++t) {
      for (std::int64_t q = 0; q < terms; ++q) {
        const float v = p.basis[(b * steps + t) * terms + q];
        basis[t * columns + q] = v;
        in_time[q * lanes + t] = v;
      }
    }
    for (std::int64_t i = 0; i < nodes; ++i) {
      const float* x = p.x + (b * nodes + i) * steps;
      float *received = series + i * lanes, *sent = series + (nodes + i) * lanes;
      float* on = active + i * lanes;
      float total = 0.0f, rows = 0.0f;
      for (std::int64_t t = 0; t < steps; ++t) {
        on[t] = x[t] != 0.0f || !p.spend[i] ? 1.0f : 0.0f;
        if (mask[t] && on[t] != 0.0f) total += x[t], rows += 1.0f;
      }
      const float usual = total / (rows > 1.0f ? rows : 1.0f);
      for (std::int64_t t = 0; t < steps; ++t) {
        sent[t] = x[t];
        received[t] = on[t] != 0.0f ? x[t] : usual;
      }
      for (std::int64_t t = steps; t < lanes; ++t) received[t] = sent[t] = on[t] = 0.0f;
      for (std::int64_t q = 0; q < terms; ++q) {
        level[i * columns + q] = level[(nodes + i) * columns + q] = -parameters[i * columns + q];
      }
    }
    matmul({level, columns, 1}, 2 * nodes, in_time, lanes, terms, series, lanes, lanes, true);
  }

  // S = inverse, also into `spread` [Q, Q]. Where the matrix is not positive definite, it holds
  // values that are not numbers.
  void solve(std::int64_t b, double* spread) {
    const std::uint8_t* mask = p.context_mask + b * steps;
    for (std::int64_t k = 0; k < terms * columns; ++k) gram[k] = 0.0;
    for (std::int64_t t = 0; t < steps; ++t) {
      if (mask[t]) add_outer(basis + t * columns, basis + t * columns, gram);
    }
    for (std::int64_t q = 0; q < terms; ++q) gram[q * columns + q] += ridge[q];
    invert(gram, inverse, solved);
    for (std::int64_t q = 0; q < terms; ++q) {
      for (std::int64_t r = 0; r < terms; ++r) spread[q * terms + r] = inverse[q * columns + r];
    }
  }

  // matrix [terms, columns] += left right'
  CAUSALMMM_INLINE void add_outer(const float* left, const float* right, double* matrix) const {
    for (std::int64_t q = 0; q < terms; ++q) {
      const double factor = left[q];
      double* row = matrix + q * columns;
      for (std::int64_t r = 0; r < columns; r += kWidth) {
        Doubles v;
        __builtin_memcpy(&v, row + r, sizeof v);
        v += factor * __builtin_convertvector(load(right + r, kWidth), Doubles);
        __builtin_memcpy(row + r, &v, sizeof v);
      }
    }
  }

  // The inverse of a symmetric positive definite matrix, whose lower triangle becomes its factor.
  void invert(double* a, double* result, double* lower) const {
    for (std::int64_t k = 0; k < terms; ++k) {  // a = L L'
      for (std::int64_t j = 0; j < k; ++j) {
        const double factor = a[k * columns + j];
        for (std::int64_t i = k; i < terms; ++i) a[i * columns + k] -= a[i * columns + j] * factor;
      }
      const double scale = 1.0 / __builtin_sqrt(a[k * columns + k]);
      for (std::int64_t i = k; i < terms; ++i) a[i * columns + k] *= scale;
    }
    for (std::int64_t c = 0; c < terms; ++c) {  // lower = L^-1
      for (std::int64_t i = 0; i < c; ++i) lower[i * columns + c] = 0.0;
      for (std::int64_t i = c; i < terms; ++i) {
        double v = i == c ? 1.0 : 0.0;
        for (std::int64_t j = c; j < i; ++j) v -= a[i * columns + j] * lower[j * columns + c];
        lower[i * columns + c] = v / a[i * columns + i];
      }
    }
    for (std::int64_t i = 0; i < terms; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        double v = 0.0;
        for (std::int64_t k = i; k < terms; ++k) v += lower[k * columns + i] * lower[k * columns + j];
        result[i * columns + j] = result[j * columns + i] = v;
      }
    }
  }

  // solver [T, columns] = S times the basis, zero outside the context rows
  void project(std::int64_t b) {
    const std::uint8_t* mask = p.context_mask + b * steps;
    for (std::int64_t t = 0; t < steps; ++t) {
      for (std::int64_t r = 0; r < columns; r += kWidth) {
        Doubles total{};
        for (std::int64_t q = 0; mask[t] && q < terms; ++q) {
          Doubles v;
          __builtin_memcpy(&v, inverse + q * columns + r, sizeof v);
          total += static_cast<double>(basis[t * columns + q]) * v;
        }
        store(solver + t * columns + r, __builtin_convertvector(total, Floats), kWidth);
      }
    }
  }

  // level = minus the coefficients of the series, which are left without their calendar
  void fit() {
    matmul({series, lanes, 1}, 2 * nodes, solver, columns, steps, level, columns, columns, false);
    for (std::int64_t k = 0; k < 2 * nodes * columns; k += kWidth) {
      store(level + k, -load(level + k, kWidth), kWidth);
    }
    matmul({level, columns, 1}, 2 * nodes, in_time, lanes, terms, series, lanes, lanes, true);
  }

  // From the gradients of c [N, columns], of the solver and of S: all reach the ridge by way of S.
  void gradient_of_ridge(const CalendarOutputs& o, const CalendarGradients& g, std::int64_t b,
                         const float* of_level, float* log_ridge) {
    const std::uint8_t* mask = p.context_mask + b * steps;
    float* of_solver = in_time;  // [terms, lanes]
    matmul({of_level, 1, columns}, terms, series, lanes, nodes, of_solver, lanes, lanes, false);
    double* of_spread = gram;  // [terms, columns]
    for (std::int64_t q = 0; q < terms; ++q) {
      for (std::int64_t r = 0; r < columns; ++r) {
        const bool given = g.spread && r < terms;
        of_spread[q * columns + r] = given ? g.spread[(b * terms + q) * terms + r] : 0.0;
      }
      for (std::int64_t t = 0; g.solver && t < steps; ++t) {
        of_solver[q * lanes + t] += g.solver[(b * terms + q) * steps + t];
      }
    }
    float* column = solver;  // [columns]
    for (std::int64_t t = 0; t < steps; ++t) {
      if (!mask[t]) continue;
      for (std::int64_t q = 0; q < terms; ++q) column[q] = of_solver[q * lanes + t];
      add_outer(column, basis + t * columns, of_spread);
    }
    const double* spread = o.spread + b * terms * terms;
    for (std::int64_t k = 0; k < terms; ++k) {  // - (S dS S) on the diagonal, S being symmetric
      double total = 0.0;
      for (std::int64_t q = 0; q < terms; ++q) {
        double row = 0.0;
        for (std::int64_t r = 0; r < terms; ++r) {
          row += of_spread[q * columns + r] * spread[r * terms + k];
        }
        total += spread[k * terms + q] * row;
      }
      const float log = p.log_ridge[k];
      if (log >= -kMaxLogRidge && log <= kMaxLogRidge) {
        log_ridge[k] -= static_cast<float>(total * ridge[k]);
      }
    }
  }

  typedef double Doubles __attribute__((vector_size(8 * CAUSALMMM_WIDTH)));
};

std::int64_t calendar_scratch(const CalendarProblem& p) {
  Pieces pieces{nullptr};
  Calendar calendar(p, pieces);
  return pieces.used;
}

void calendar_forward(const CalendarProblem& p, const CalendarOutputs& o, float* scratch,
                      std::int64_t begin, std::int64_t end) {
  Pieces pieces{scratch};
  Calendar calendar(p, pieces);
  for (std::int64_t b = begin; b < end; ++b) calendar.forward(o, b);
}

void calendar_backward(const CalendarProblem& p, const CalendarOutputs& o,
                       const CalendarGradients& g, float* scratch, std::int64_t begin,
                       std::int64_t end) {
  Pieces pieces{scratch};
  Calendar calendar(p, pieces);
  const std::int64_t run = begin / kCalendarRun;
  float* shared = g.shared + run * p.nodes * p.terms;
  float* log_ridge = g.log_ridge + run * p.terms;
  for (std::int64_t k = 0; k < p.nodes * p.terms; ++k) shared[k] = 0.0f;
  for (std::int64_t k = 0; k < p.terms; ++k) log_ridge[k] = 0.0f;
  for (std::int64_t b = begin; b < end; ++b) calendar.backward(o, g, b, shared, log_ridge);
}

}  // namespace

const CalendarKernels CalendarKernels::CAUSALMMM_LEVEL = {calendar_scratch, calendar_forward,
                                                          calendar_backward};

}  // namespace causalmmm
