// A bfloat16 number in memory, the upper half of a float. Conversions are up to the kernels.
#pragma once

#include <cstdint>

namespace causalmmm {

struct Bfloat16 {
  std::uint16_t bits;
};

}  // namespace causalmmm
