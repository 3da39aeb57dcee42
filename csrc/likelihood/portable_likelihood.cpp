// Likelihood rows in vectors of 4 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 4
#define CAUSALMMM_LIKELIHOOD kPortableLikelihood
#include "likelihood/vector_likelihood.h"
