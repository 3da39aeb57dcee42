// How many results of a faster path leave those of the portable one.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

// `allowed` is a share of one and the expected size; zero asks for the same numbers.
inline int differences(const std::vector<float>& found, const std::vector<float>& expected,
                       float allowed) {
  int wrong = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    wrong += !(std::fabs(found[k] - expected[k]) <= allowed * (1.0f + std::fabs(expected[k])));
  }
  return wrong;
}
