// Evidence in vectors of 8 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 8
#define CAUSALMMM_EVIDENCE kAvx2Evidence
#include "evidence/vector_evidence.h"
