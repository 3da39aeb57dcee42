// The posterior in vectors of 16 floats; CMakeLists.txt sets the instruction set of this file.
#define CAUSALMMM_WIDTH 16
#define CAUSALMMM_POSTERIOR kAvx512Posterior
#include "posterior/vector_posterior.h"
