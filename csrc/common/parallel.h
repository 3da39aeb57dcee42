// Work on equal pieces by threads that each have scratch memory of their own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace causalmmm {

// Calls work(scratch, begin, end) so that all of [0, count) is covered once, in runs of `run` pieces
// that are dealt to the threads in turn. Scratch memory is `floats` long, zero, and starts on a cache
// line. Which thread does what depends on the sizes alone.
template <class Work>
void in_runs(std::int64_t count, std::int64_t run, std::int64_t floats, int threads, Work work) {
  constexpr std::size_t kLine = 64;
  const std::int64_t runs = (count + run - 1) / run;
  const auto workers =
      static_cast<int>(std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(runs, 1)));
  const auto take_turns = [&](std::int64_t first) {
    std::vector<float> memory(static_cast<std::size_t>(floats) + kLine / sizeof(float));
    const auto start = reinterpret_cast<std::uintptr_t>(memory.data());
    float* scratch = memory.data() + (kLine - start % kLine) % kLine / sizeof(float);
    for (std::int64_t k = first; k < runs; k += workers) {
      work(scratch, k * run, std::min(count, (k + 1) * run));
    }
  };
#ifdef _OPENMP
  if (workers > 1) {
#pragma omp parallel for num_threads(workers) schedule(static, 1)
    for (int worker = 0; worker < workers; ++worker) take_turns(worker);
    return;
  }
#endif
  for (int worker = 0; worker < workers; ++worker) take_turns(worker);
}

}  // namespace causalmmm
