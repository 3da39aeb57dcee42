// Python module causalmmm._C: turns addresses, sizes and strides into the core's structures, and its
// error messages into exceptions. No arithmetic here; the caller owns the memory. Its parts are the
// bind_*.cpp beside this file.
#include "python/arguments.h"

namespace causalmmm {

std::atomic<CpuLevel> cpu_level{detected_cpu_level()};

namespace {

std::string set_cpu_level(const std::string& wanted) {
  for (CpuLevel level : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    if (wanted != name(level)) continue;
    if (!usable(level)) {
      throw std::invalid_argument("cpu level '" + wanted + "' is not available: this processor has '" +
                                  name(detected_cpu_level()) + "'");
    }
    return name(cpu_level.exchange(level));
  }
  throw std::invalid_argument("no cpu level '" + wanted + "'; there are portable, avx2 and avx512");
}

py::dict build_info() {
  py::dict info;
  info["version"] = CAUSALMMM_VERSION;
  info["cuda"] = static_cast<bool>(CAUSALMMM_WITH_CUDA);
#ifdef _OPENMP
  info["openmp"] = true;
#else
  info["openmp"] = false;
#endif
  info["cpu_level"] = name(detected_cpu_level());
  return info;
}

}  // namespace
}  // namespace causalmmm

PYBIND11_MODULE(_C, m) {
  using namespace causalmmm;
  m.doc() = "Compiled kernels of causalmmm.";
  py::register_exception<CudaError>(m, "CudaError", PyExc_RuntimeError);
  m.attr("SOURCES") = CAUSALMMM_SOURCES;  // digest of csrc: kernels/extension.py asks for it
  m.def("build_info", build_info,
        "What this module was built with, and the vector instructions found on this processor.");
  m.def("set_cpu_level", set_cpu_level, py::arg("level"),
        "Use 'portable', 'avx2' or 'avx512' code from now on; returns the level used before.");
  bind_responses(m);
  bind_edges(m);
  bind_evidence(m);
  bind_objective(m);
}
