// What ranks tell each other of the exchange that they enter, so that one that skipped an exchange, or counts otherwise, is found and named
// before anybody computes with another exchange's bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/progress.h"

namespace switchyard {

/// An exchange as one rank sees it. Counts are rows of all_to_all and elements otherwise, by peer; empty where nothing is moved.
struct ExchangePlan {
  const char* operation;
  int64_t row_bytes = 0;
  std::vector<int64_t> sends = {};
  std::vector<int64_t> expects = {};
};

/// "all_to_all among ranks [0 1 2] (rows of 8 bytes, sends [3 0 5], expects [2 2 2])"
std::string describe(const ExchangePlan& plan, const std::vector<int64_t>& world_ranks);

/// "rank 2", "ranks 0, 2"
std::string name_ranks(const std::vector<int64_t>& world_ranks);

/// What goes to one peer, byte by byte.
struct ExchangeNotice {
  std::array<char, 24> operation = {};
  int64_t row_bytes = 0;
  int64_t sends = 0;    ///< to the peer that reads this
  int64_t expects = 0;  ///< of it
  Position position = {};
};

ExchangeNotice notice_for(int64_t peer, const ExchangePlan& plan, const Position& position);

/// Errors: RunError with both sides' exchanges, counts and positions, where they are not two sides of one exchange. peer: its rank in the
/// world.
void check_notices_match(const ExchangeNotice& mine, const ExchangeNotice& theirs, int64_t peer);

}  // namespace switchyard
