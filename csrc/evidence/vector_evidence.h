// The evidence's table of one instruction set. Included once for each, after CAUSALMMM_WIDTH and
// CAUSALMMM_LEVEL (the table to define) are set.
#pragma once

#include "evidence/vector_bank_relevance.h"
#include "evidence/vector_lag_relevance.h"
#include "evidence/vector_responses.h"
#include "evidence/vector_windows.h"

namespace causalmmm {

const EvidenceKernels EvidenceKernels::CAUSALMMM_LEVEL = {
    causalmmm::window_scratch, causalmmm::terms_scratch, causalmmm::mean_field_scratch,
    causalmmm::lag_relevance_scratch, causalmmm::bank_relevance_scratch,
    causalmmm::window_statistics, causalmmm::response_terms, causalmmm::mean_field,
    causalmmm::lag_relevance, causalmmm::bank_relevance};

}  // namespace causalmmm
