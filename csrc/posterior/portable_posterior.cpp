// The posterior in vectors of 4 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 4
#define CAUSALMMM_LEVEL kPortable
#include "posterior/vector_posterior.h"
