// Ranks as threads of one process, for tests: a debugger and the sanitizers see all of them.
#include <algorithm>
#include <exception>
#include <numeric>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "parallel/communicator.h"
#include "parallel/exchange_checks.h"
#include "parallel/local_board.h"
#include "parallel/rank_order_sum.h"

namespace switchyard {
namespace {

/// Takes the posts when it is waited for, not before: code that reads too early reads garbage here too.
class LocalWork : public Work {
 public:
  explicit LocalWork(std::function<void()> take) : take_(std::move(take)) {}

  ~LocalWork() override {
    if (!take_ || std::uncaught_exceptions() > 0) return;
    try {
      wait();
    } catch (const RunError&) {
      // A failure of the team: whatever this rank exchanges next throws it.
    }
  }

  void wait() override {
    TORCH_CHECK(take_, "Work::wait: called twice");
    std::exchange(take_, nullptr)();
  }

 private:
  std::function<void()> take_;
};

/// Each rank's post of one tensor, one below the other.
at::Tensor stack_posts(const std::vector<Tensors>& posts) {
  Tensors tensors;
  for (const auto& post : posts) tensors.push_back(post[0]);
  return at::stack(tensors);
}

void take_rows(const std::vector<Tensors>& posts, int64_t rank, const at::Tensor& receive, const std::vector<int64_t>& receive_rows) {
  auto places = receive.detach().split_with_sizes(receive_rows);
  for (size_t sender = 0; sender < posts.size(); ++sender) places[sender].copy_(posts[sender][rank]);
}

class LocalCommunicator : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<Board> board, int64_t rank, int64_t node) : board_(std::move(board)), rank_(rank), node_(node) {}

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return board_->size(); }
  int64_t node() const override { return node_; }

  std::unique_ptr<Work> all_reduce_sum(at::Tensor tensor) override {
    check_contiguous("all_reduce_sum", tensor);
    return start({counts("all_reduce_sum", tensor), {tensor.detach().clone()}},
                 [tensor](const std::vector<Tensors>& posts) { tensor.detach().copy_(sum_in_rank_order(stack_posts(posts))); });
  }

  std::unique_ptr<Work> reduce_scatter_sum(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    check_parts("reduce_scatter_sum", tensor, parts, size());
    const std::vector<int64_t> mine(size(), parts[rank_]);
    return start({{"reduce_scatter_sum", tensor.element_size(), parts, mine}, tensor.detach().clone().split_with_sizes(parts)},
                 [rank = rank_, mine = tensor.detach().split_with_sizes(parts)[rank_]](const std::vector<Tensors>& posts) {
                   Tensors summands;
                   for (const auto& post : posts) summands.push_back(post[rank]);
                   mine.copy_(sum_in_rank_order(at::stack(summands)));
                 });
  }

  std::unique_ptr<Work> all_gather_parts(at::Tensor tensor, const std::vector<int64_t>& parts) override {
    check_parts("all_gather_parts", tensor, parts, size());
    const std::vector<int64_t> mine(size(), parts[rank_]);
    return start({{"all_gather_parts", tensor.element_size(), mine, parts}, {tensor.detach().split_with_sizes(parts)[rank_].clone()}},
                 [places = tensor.detach().split_with_sizes(parts)](const std::vector<Tensors>& posts) {
                   for (size_t rank = 0; rank < posts.size(); ++rank) places[rank].copy_(posts[rank][0]);
                 });
  }

  void all_reduce_max(at::Tensor tensor) override { tensor.detach().copy_(all_gather(tensor).amax(0)); }

  std::unique_ptr<Work> all_to_all(const at::Tensor& send, const std::vector<int64_t>& send_rows, at::Tensor receive,
                                   const std::vector<int64_t>& receive_rows) override {
    check_all_to_all(send, send_rows, receive, receive_rows, size());
    const int64_t row_bytes = c10::multiply_integers(send.sizes().slice(1)) * send.element_size();
    return start(
        {{"all_to_all", row_bytes, send_rows, receive_rows}, send.detach().clone().split_with_sizes(send_rows)},
        [rank = rank_, receive, receive_rows](const std::vector<Tensors>& posts) { take_rows(posts, rank, receive, receive_rows); });
  }

  at::Tensor all_gather(const at::Tensor& tensor) override {
    check_contiguous("all_gather", tensor);
    return stack_posts(exchange({counts("all_gather", tensor), {tensor.detach().clone()}}));
  }

  void broadcast(at::Tensor tensor, int64_t root) override {
    check_contiguous("broadcast", tensor);
    check_root(root, size());
    std::vector<int64_t> expects(size(), 0);
    expects[root] = tensor.numel();
    const std::vector<int64_t> sends(size(), rank_ == root ? tensor.numel() : 0);
    const auto posts =
        exchange({{"broadcast", tensor.element_size(), sends, expects}, rank_ == root ? Tensors{tensor.detach().clone()} : Tensors{}});
    tensor.detach().copy_(posts[root][0]);
  }

  void barrier() override { exchange({{"barrier"}}); }

  CommunicatorPtr split(int64_t color) override {
    const auto number = next_number_;
    std::vector<int64_t> ranks;
    const auto posts = exchange({{"split"}, {at::scalar_tensor(color, at::kLong)}});
    for (int64_t rank = 0; rank < size(); ++rank) {
      if (posts[rank][0].item<int64_t>() == color) ranks.push_back(rank);
    }
    const auto place = std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
    return std::make_shared<LocalCommunicator>(board_->child(number, ranks), place, node_);
  }

  void abort(int exit_code) override {
    const auto message =
        "[rank " + std::to_string(rank_) + "/" + std::to_string(size()) + "] aborted with code " + std::to_string(exit_code);
    board_->team().fail(message, std::make_exception_ptr(RunError(message)));
  }

 private:
  /// Every rank gives every other the whole tensor.
  ExchangePlan counts(const char* operation, const at::Tensor& tensor) const {
    const std::vector<int64_t> numel(size(), tensor.numel());
    return {operation, tensor.element_size(), numel, numel};
  }

  std::unique_ptr<Work> start(Post post, std::function<void(const std::vector<Tensors>&)> take) {
    const auto number = next_number_++;
    board_->post(number, rank_, std::move(post));
    return std::make_unique<LocalWork>([board = board_, number, rank = rank_, take] { take(board->collect(number, rank)); });
  }

  std::vector<Tensors> exchange(Post post) {
    const auto number = next_number_++;
    board_->post(number, rank_, std::move(post));
    return board_->collect(number, rank_);
  }

  std::shared_ptr<Board> board_;
  int64_t rank_;
  int64_t node_;
  int64_t next_number_ = 0;
};

void run_rank(const std::shared_ptr<Team>& team, const std::shared_ptr<Board>& board, int64_t rank, int64_t node,
              const std::function<void(CommunicatorPtr)>& body) {
  at::set_num_threads(1);
  try {
    body(std::make_shared<LocalCommunicator>(board, rank, node));
  } catch (const std::exception& exception) {
    team->fail("rank " + std::to_string(rank) + " failed: " + exception.what(), std::current_exception());
  }
  team->end(rank);
}

}  // namespace

void run_ranks_as_threads(int64_t num_ranks, const std::function<void(CommunicatorPtr)>& body, int64_t ranks_per_node) {
  TORCH_CHECK(num_ranks > 0 && ranks_per_node >= 0, "run_ranks_as_threads: ", num_ranks, " ranks, ", ranks_per_node, " a node");
  if (ranks_per_node == 0) ranks_per_node = num_ranks;
  std::vector<int64_t> members(num_ranks);
  std::iota(members.begin(), members.end(), 0);
  const auto team = std::make_shared<Team>(num_ranks);
  const auto board = std::make_shared<Board>(team, members);
  const int num_threads = at::get_num_threads();
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back(run_rank, team, board, rank, rank / ranks_per_node, body);
  }
  for (auto& thread : threads) thread.join();
  at::set_num_threads(num_threads);
  if (team->first_exception) std::rethrow_exception(team->first_exception);
}

}  // namespace switchyard
