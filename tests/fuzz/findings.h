// What a comparison saw: the largest difference of each quantity, and what exceeds its bound.
#pragma once

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <c10/util/StringUtil.h>

namespace switchyard {

struct Mismatch {
  std::string quantity;
  std::string text;
};

struct Findings {
  std::map<std::string, double> largest;  ///< by quantity
  std::vector<Mismatch> mismatches;
  std::vector<std::string> near_ties;
  std::vector<std::string> rounding;     ///< fp32 runs that differ as fp32 differs from fp64, and agree in fp64
  std::set<std::string> zero_gradients;  ///< tensors with elements whose gradient is zero by mathematics

  /// A difference that is not a number exceeds every bound.
  void note(const std::string& quantity, double difference, double bound, const std::string& where) {
    auto& most = largest[quantity];
    if (!(difference <= most)) most = difference;
    if (difference <= bound) return;
    fail(quantity, c10::str(where, ": ", difference, " is more than ", bound));
  }

  void fail(const std::string& quantity, const std::string& text) { mismatches.push_back({quantity, text}); }

  void append(const Findings& more) {
    for (const auto& [quantity, difference] : more.largest) note(quantity, difference, std::numeric_limits<double>::infinity(), "");
    mismatches.insert(mismatches.end(), more.mismatches.begin(), more.mismatches.end());
    near_ties.insert(near_ties.end(), more.near_ties.begin(), more.near_ties.end());
    rounding.insert(rounding.end(), more.rounding.begin(), more.rounding.end());
    zero_gradients.insert(more.zero_gradients.begin(), more.zero_gradients.end());
  }
};

}  // namespace switchyard
