#include "parallel/exchange_notice.h"

#include <cstring>

#include <c10/util/StringUtil.h>

#include "core/error.h"

namespace switchyard {
namespace {

constexpr size_t kMaxListed = 64;

/// "1 2 3"; cut short where there are many.
std::string join(const std::vector<int64_t>& numbers, const char* separator) {
  std::string text;
  for (size_t i = 0; i < numbers.size() && i < kMaxListed; ++i) {
    if (i > 0) text.append(separator);
    text.append(std::to_string(numbers[i]));
  }
  if (numbers.size() > kMaxListed) text.append(separator).append("...");
  return text;
}

std::string list(const std::vector<int64_t>& numbers) {
  return c10::str("[", join(numbers, " "), "]");
}

/// peer: "rank 2"
std::string describe(const ExchangeNotice& notice, const std::string& peer) {
  auto text = c10::str(notice.operation.data(), " (sends ", peer, " ", notice.sends, " and expects ", notice.expects, " of ",
                       notice.row_bytes, " bytes each)");
  if (notice.position.phase) text += " at " + to_string(notice.position);
  return text;
}

}  // namespace

std::string describe(const ExchangePlan& plan, const std::vector<int64_t>& world_ranks) {
  auto text = std::string(plan.operation) + " among ranks " + list(world_ranks);
  if (plan.sends.empty()) return text;
  return c10::str(text, " (rows of ", plan.row_bytes, " bytes, sends ", list(plan.sends), ", expects ", list(plan.expects), ")");
}

std::string name_ranks(const std::vector<int64_t>& world_ranks) {
  return c10::str(world_ranks.size() == 1 ? "rank " : "ranks ", join(world_ranks, ", "));
}

ExchangeNotice notice_for(int64_t peer, const ExchangePlan& plan, const Position& position) {
  ExchangeNotice notice{.row_bytes = plan.row_bytes, .position = position};
  std::strncpy(notice.operation.data(), plan.operation, notice.operation.size() - 1);
  if (!plan.sends.empty()) notice.sends = plan.sends.at(static_cast<size_t>(peer));
  if (!plan.expects.empty()) notice.expects = plan.expects.at(static_cast<size_t>(peer));
  return notice;
}

void check_notices_match(const ExchangeNotice& mine, const ExchangeNotice& theirs, int64_t peer) {
  const bool match = mine.operation == theirs.operation && mine.row_bytes == theirs.row_bytes && mine.sends == theirs.expects &&
                     mine.expects == theirs.sends;
  if (match) return;
  const auto name = "rank " + std::to_string(peer);
  throw RunError("exchanges do not match: " + describe(mine, name) + " meets " + name + "'s " + describe(theirs, "this rank") +
                 "; one of the two has skipped an exchange, or they count differently");
}

}  // namespace switchyard
