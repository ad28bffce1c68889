#include "parallel/local_board.h"

#include <algorithm>

#include "core/error.h"

namespace switchyard {

void Team::fail(const std::string& message, std::exception_ptr exception) {
  const std::lock_guard lock(mutex);
  if (failure.empty()) {
    failure = message;
    first_exception = exception;
  }
  changed.notify_all();
}

void Team::end(int64_t rank) {
  const std::lock_guard lock(mutex);
  ended[rank] = true;
  changed.notify_all();
}

void Board::post(int64_t number, int64_t rank, Post post) {
  const std::lock_guard lock(team_->mutex);
  throw_if_failed();
  auto& posts = posts_of(number);
  posts.by_rank[rank] = std::move(post);
  team_->changed.notify_all();
}

std::vector<Tensors> Board::collect(int64_t number, int64_t rank) {
  std::unique_lock lock(team_->mutex);
  auto& posts = posts_of(number);
  team_->changed.wait(lock, [&] { return !team_->failure.empty() || posts.complete() || !ended_without(posts).empty(); });
  if (!posts.complete()) {
    throw_if_failed();
    throw RunError(describe(posts.by_rank[rank]->plan, members_) + ": " + name_ranks(ended_without(posts)) + " ended without it");
  }
  check_plans_match(posts, rank);
  std::vector<Tensors> collected;
  for (const auto& post : posts.by_rank) collected.push_back(post->tensors);
  if (++posts.num_collected == size()) posts_.erase(number);
  return collected;
}

std::shared_ptr<Board> Board::child(int64_t number, const std::vector<int64_t>& ranks) {
  const std::lock_guard lock(team_->mutex);
  auto& board = children_[{number, ranks.front()}];
  if (!board) {
    std::vector<int64_t> members;
    for (const auto rank : ranks) members.push_back(members_[rank]);
    board = std::make_shared<Board>(team_, members);
  }
  return board;
}

bool Board::Posts::complete() const {
  return std::all_of(by_rank.begin(), by_rank.end(), [](const auto& post) { return post.has_value(); });
}

Board::Posts& Board::posts_of(int64_t number) {
  auto& posts = posts_[number];
  posts.by_rank.resize(members_.size());
  return posts;
}

void Board::check_plans_match(const Posts& posts, int64_t rank) const {
  const auto notice = [&](int64_t from, int64_t to) { return notice_for(to, posts.by_rank[from]->plan, {}); };
  for (int64_t peer = 0; peer < size(); ++peer) check_notices_match(notice(rank, peer), notice(peer, rank), members_[peer]);
}

std::vector<int64_t> Board::ended_without(const Posts& posts) const {
  std::vector<int64_t> ended;
  for (size_t rank = 0; rank < members_.size(); ++rank) {
    if (!posts.by_rank[rank] && team_->ended[members_[rank]]) ended.push_back(members_[rank]);
  }
  return ended;
}

void Board::throw_if_failed() const {
  if (!team_->failure.empty()) throw RunError(team_->failure);
}

}  // namespace switchyard
