// Runs the response core under AddressSanitizer and UndefinedBehaviorSanitizer: every buffer has
// exactly the size it needs, so that one element too far stops the program. Compares the vector code
// with the plain loops on the way. Prints the number of cases; exits 1 on a difference.
#include "cases.h"

// The 16-wide code on vectors that any processor has.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_LEVEL kAvx512
#include "response/vector_rows.h"

int main() {
  int cases = 0, wrong = 0;
  for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat64}) {
    for (std::int64_t steps = 1; steps <= 37; steps += steps < 18 ? 1 : 6) {
      for (int flags = 0; flags < 8; ++flags) {
        Case c(dtype, steps, flags & 1, flags & 2, flags & 4, 2);
        c.run(RowKernels::kScalar);
        ++cases;
        if (dtype == Dtype::kFloat64) continue;
        const std::vector<double> expected = c.values();
        for (const RowKernels* kernels : {&RowKernels::kPortable, &RowKernels::kAvx512}) {
          c.poison();
          c.run(*kernels);
          wrong += differences(c, expected);
        }
      }
    }
  }
  {  // the threaded entry points, and a row that stops being finite
    Case c(Dtype::kFloat32, 40, false, false, true, 3000);
    static_cast<float*>(c.p.x.data)[45] = INFINITY;
    forward_cpu(c.p, c.o, 3, CpuLevel::kPortable);
    backward_cpu(c.p, c.g, 3, CpuLevel::kPortable);
    ++cases;
  }
  std::printf("%d cases\n", cases);
  return wrong ? 1 : 0;
}
