// Where ranks that are threads meet. Every exchange is a post: each rank puts copies of what it gives on its group's board under a running
// number, and takes from the others' posts when it waits. Internal to local_communicator.cpp.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/exchange_notice.h"

namespace switchyard {

using Tensors = std::vector<at::Tensor>;

/// What a rank gives to one exchange.
struct Post {
  ExchangePlan plan;
  Tensors tensors = {};
};

/// What all ranks of one run_ranks_as_threads share, under one lock.
struct Team {
  explicit Team(int64_t num_ranks) : ended(num_ranks, false) {}

  /// The first failure counts; the others follow from it.
  void fail(const std::string& message, std::exception_ptr exception);
  void end(int64_t rank);

  std::mutex mutex;
  std::condition_variable changed;
  std::string failure;
  std::exception_ptr first_exception;
  std::vector<bool> ended;  ///< ranks of the team whose body has returned
};

/// The posts of one group. `members`: the group's ranks, as ranks of the team.
class Board {
 public:
  Board(std::shared_ptr<Team> team, std::vector<int64_t> members) : team_(std::move(team)), members_(std::move(members)) {}

  /// Errors: RunError once a rank of the team has failed.
  void post(int64_t number, int64_t rank, Post post);
  /// Waits for all posts of that number. Every rank collects once. What all have joined succeeds, whatever fails later.
  /// Errors: RunError when a rank has failed, has ended without this exchange, or has posted another one.
  std::vector<Tensors> collect(int64_t number, int64_t rank);
  /// The board of those of this group's ranks; the same object for all that name the same number and ranks.
  std::shared_ptr<Board> child(int64_t number, const std::vector<int64_t>& ranks);

  Team& team() { return *team_; }
  int64_t size() const { return static_cast<int64_t>(members_.size()); }

 private:
  struct Posts {
    bool complete() const;

    std::vector<std::optional<Post>> by_rank;
    int64_t num_collected = 0;
  };

  Posts& posts_of(int64_t number);
  void check_plans_match(const Posts& posts, int64_t rank) const;
  /// Ranks of the team whose body has returned and that have not posted.
  std::vector<int64_t> ended_without(const Posts& posts) const;
  void throw_if_failed() const;

  std::shared_ptr<Team> team_;
  std::vector<int64_t> members_;
  std::map<int64_t, Posts> posts_;
  std::map<std::pair<int64_t, int64_t>, std::shared_ptr<Board>> children_;
};

}  // namespace switchyard
