// What the parts of the Python module share: addresses as pointers, the level of instructions in use,
// and one function each that adds a part's names to the module.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "common/cpu_level.h"

namespace causalmmm {

namespace py = pybind11;

class CudaError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

extern std::atomic<CpuLevel> cpu_level;

template <class T = float>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// A problem whose sizes make sense; else ValueError.
template <class Problem>
const Problem& sound(const Problem& p) {
  if (const char* wrong = check(p)) throw std::invalid_argument(wrong);
  return p;
}

void bind_responses(py::module_& m);
void bind_edges(py::module_& m);
void bind_evidence(py::module_& m);
void bind_objective(py::module_& m);

}  // namespace causalmmm
