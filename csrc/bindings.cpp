// Python module causalmmm._C: argument checks and conversions only; the work is done in the core.
#include <pybind11/pybind11.h>

#include "cpu_level.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of causalmmm.";
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["version"] = CAUSALMMM_VERSION;
        info["cuda"] = static_cast<bool>(CAUSALMMM_WITH_CUDA);
#ifdef _OPENMP
        info["openmp"] = true;
#else
        info["openmp"] = false;
#endif
        info["cpu_level"] = causalmmm::name(causalmmm::detected_cpu_level());
        return info;
      },
      "What this module was built with, and the vector instructions found on this processor.");
}
