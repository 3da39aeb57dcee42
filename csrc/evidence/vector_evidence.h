// The evidence's table of one instruction set. Included once for each, after CAUSALMMM_WIDTH and
// CAUSALMMM_EVIDENCE (the name of the table to define) are set.
#pragma once

#include "evidence/vector_responses.h"
#include "evidence/vector_windows.h"

namespace causalmmm {

const EvidenceKernels CAUSALMMM_EVIDENCE = {window_scratch,    terms_scratch,  mean_field_scratch,
                                            window_statistics, response_terms, mean_field};

}  // namespace causalmmm
