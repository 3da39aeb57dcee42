// Edge tiles in vectors of 16 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_EDGES kAvx512Edges
#include "edge/vector_edges.h"
