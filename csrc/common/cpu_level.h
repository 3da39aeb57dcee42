// Which vector instructions this processor offers, and whose kernels run. Plain C++: no torch, no
// Python.
#pragma once

namespace causalmmm {

enum class CpuLevel : int { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

// The best level that both the processor and the operating system support.
CpuLevel detected_cpu_level();

bool usable(CpuLevel level);

const char* name(CpuLevel level);

// The table of a level: `Kernels` has one for each as a constant of its own. Files that are compiled
// for x86 with all of them set CAUSALMMM_X86; other processors have the portable one alone.
template <class Kernels>
const Kernels& kernels_for(CpuLevel level) {
#ifdef CAUSALMMM_X86
  if (level == CpuLevel::kAvx512) return Kernels::kAvx512;
  if (level == CpuLevel::kAvx2) return Kernels::kAvx2;
#else
  static_cast<void>(level);
#endif
  return Kernels::kPortable;
}

}  // namespace causalmmm
