// Random arguments for the drivers, in buffers of exactly the size they need.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

struct Random {
  std::mt19937 engine{7};

  template <class T = float>
  std::vector<T> normal(std::int64_t count) {
    std::normal_distribution<T> law;
    std::vector<T> values(count);
    for (T& v : values) v = law(engine);
    return values;
  }

  template <class T>
  std::vector<T> coins(std::int64_t count) {
    std::bernoulli_distribution law(0.8);
    std::vector<T> values(count);
    for (T& v : values) v = law(engine);
    return values;
  }
};
