// What scripts/fuzz_layouts reads: one line of JSON a case.
#pragma once

#include <string>

#include "tests/fuzz/draw_case.h"
#include "tests/fuzz/findings.h"

namespace switchyard {

std::string start_line(int64_t index);
std::string result_line(const FuzzCase& drawn, const std::vector<Findings>& findings, double seconds);
std::string exception_line(int64_t index, const std::string& message);

}  // namespace switchyard
