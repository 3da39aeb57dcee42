// Which vector instructions this processor offers. Plain C++: no torch, no Python.
#pragma once

namespace causalmmm {

enum class CpuLevel : int { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

// The best level that both the processor and the operating system support.
CpuLevel detected_cpu_level();

bool usable(CpuLevel level);

const char* name(CpuLevel level);

}  // namespace causalmmm
