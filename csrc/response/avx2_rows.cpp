// Response rows in vectors of 8 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 8
#define CAUSALMMM_LEVEL kAvx2
#include "response/vector_rows.h"
