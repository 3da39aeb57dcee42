// Likelihood rows in vectors of 16 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_LEVEL kAvx512
#include "likelihood/vector_likelihood.h"
