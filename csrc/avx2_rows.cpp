// Response rows in vectors of 8 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 8
#define CAUSALMMM_ROWS kAvx2Rows
#include "vector_rows.h"
