// How many results of a faster path leave those of the portable one.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

// `allowed` is a share of one and the expected size; zero asks for the same numbers.
template <class T>
int differences(const std::vector<T>& found, const std::vector<T>& expected, T allowed) {
  int wrong = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    wrong += !(std::fabs(found[k] - expected[k]) <= allowed * (T{1} + std::fabs(expected[k])));
  }
  return wrong;
}
