// Likelihood rows in vectors of 4 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 4
#define CAUSALMMM_LEVEL kPortable
#include "likelihood/vector_likelihood.h"
