#include "tests/fuzz/case_report.h"

#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

using nlohmann::json;

/// JSON has no infinity.
json number(double value) {
  return std::isfinite(value) ? json(value) : json("inf");
}

}  // namespace

std::string start_line(int64_t index) {
  return json{{"start", index}}.dump();
}

std::string result_line(const FuzzCase& drawn, const std::vector<Findings>& findings, double seconds) {
  json line = {{"case", drawn.index},
               {"processes", drawn.processes},
               {"seconds", seconds},
               {"dtype", c10::toString(drawn.job.dtype)},
               {"job", describe_job(drawn.job)},
               {"layouts", drawn.layouts.size()},
               {"repeated", drawn.repeats_last},
               {"mismatches", json::array()},
               {"near_ties", json::array()},
               {"rounding", json::array()},
               {"largest", json::object()},
               {"zero_gradients", json::array()}};
  Findings all;
  for (size_t i = 0; i < findings.size(); ++i) {
    all.append(findings[i]);
    const auto layout = describe_layout(drawn.layouts[i]);
    for (const auto& [quantity, text] : findings[i].mismatches) {
      line["mismatches"].push_back({{"layout", layout}, {"quantity", quantity}, {"text", text}});
    }
    for (const auto& text : findings[i].near_ties) line["near_ties"].push_back({{"layout", layout}, {"text", text}});
    for (const auto& text : findings[i].rounding) line["rounding"].push_back({{"layout", layout}, {"text", text}});
  }
  for (const auto& [quantity, value] : all.largest) line["largest"][quantity] = number(value);
  for (const auto& name : all.zero_gradients) line["zero_gradients"].push_back(name);
  return line.dump();
}

std::string exception_line(int64_t index, const std::string& message) {
  return json{{"case", index}, {"exception", message}}.dump();
}

}  // namespace switchyard
