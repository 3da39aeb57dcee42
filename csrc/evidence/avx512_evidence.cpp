// Evidence in vectors of 16 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_EVIDENCE kAvx512Evidence
#include "evidence/vector_evidence.h"
