// The evidence's table of one instruction set. Included once for each, after CAUSALMMM_WIDTH and
// CAUSALMMM_LEVEL (the table to define) are set.
#pragma once

#include "evidence/vector_responses.h"
#include "evidence/vector_windows.h"

namespace causalmmm {

const EvidenceKernels EvidenceKernels::CAUSALMMM_LEVEL = {
    causalmmm::window_scratch, causalmmm::terms_scratch, causalmmm::mean_field_scratch,
    causalmmm::window_statistics, causalmmm::response_terms, causalmmm::mean_field};

}  // namespace causalmmm
