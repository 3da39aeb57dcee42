#include "common/cpu_level.h"

namespace causalmmm {

CpuLevel detected_cpu_level() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    return CpuLevel::kAvx512;
  }
  if (avx2) return CpuLevel::kAvx2;
#endif
  return CpuLevel::kPortable;
}

bool usable(CpuLevel level) {
  return static_cast<int>(level) <= static_cast<int>(detected_cpu_level());
}

const char* name(CpuLevel level) {
  switch (level) {
    case CpuLevel::kAvx512: return "avx512";
    case CpuLevel::kAvx2: return "avx2";
    case CpuLevel::kPortable: break;
  }
  return "portable";
}

}  // namespace causalmmm
