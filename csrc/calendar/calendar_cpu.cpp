// CPU entry points of the calendar: argument checks, instruction set, threads, scratch memory.
#include "calendar/calendar.h"
#include "common/parallel.h"

namespace causalmmm {

const char* check(const CalendarProblem& p) {
  if (p.stores < 0 || p.nodes < 1) return "at least one node is needed";
  if (p.steps < 1) return "a window needs at least one step";
  if (p.terms < 1) return "the calendar needs at least one term";
  return nullptr;
}

void calendar_forward_cpu(const CalendarProblem& p, const CalendarOutputs& o, int threads,
                          CpuLevel level) {
  const CalendarKernels& kernels = kernels_for<CalendarKernels>(level);
  in_runs(p.stores, kCalendarRun, kernels.scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.forward(p, o, scratch, begin, end);
          });
}

void calendar_backward_cpu(const CalendarProblem& p, const CalendarOutputs& o,
                           const CalendarGradients& g, int threads, CpuLevel level) {
  const CalendarKernels& kernels = kernels_for<CalendarKernels>(level);
  in_runs(p.stores, kCalendarRun, kernels.scratch(p), threads,
          [&](float* scratch, std::int64_t begin, std::int64_t end) {
            kernels.backward(p, o, g, scratch, begin, end);
          });
}

}  // namespace causalmmm
