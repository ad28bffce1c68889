#include "parallel/exchange_watch.h"

#include <iterator>

namespace switchyard {
namespace {

constexpr std::chrono::milliseconds kPeriod{50};
constexpr std::chrono::seconds kLongestLook{2};

}  // namespace

ExchangeWatch::ExchangeWatch(std::chrono::milliseconds timeout, std::function<void(const std::string&)> on_failure)
    : timeout_(timeout), on_failure_(std::move(on_failure)), thread_([this] { run(); }) {}

ExchangeWatch::~ExchangeWatch() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ExchangeWatch::add(std::unique_ptr<DeviceExchange> exchange) {
  const std::lock_guard lock(mutex_);
  added_.push_back({std::move(exchange), Clock::now() + timeout_});
  if (added_.size() == 1) changed_.notify_all();
}

void ExchangeWatch::forget() {
  {
    const std::lock_guard lock(mutex_);
    forgets_ = true;
  }
  changed_.notify_all();
  // What was under way is about to be closed: a look that has begun must end first.
  if (looking_.try_lock_for(kLongestLook)) looking_.unlock();
}

void ExchangeWatch::run() {
  std::vector<Watched> watched;
  for (;;) {
    std::unique_lock<std::timed_mutex> looking;
    {
      std::unique_lock lock(mutex_);
      const auto is_called = [&] { return ends_ || forgets_ || !added_.empty(); };
      if (watched.empty()) {
        changed_.wait(lock, is_called);
      } else {
        changed_.wait_for(lock, kPeriod, [&] { return forgets_; });
      }
      std::move(added_.begin(), added_.end(), std::back_inserter(watched));
      added_.clear();
      if (std::exchange(forgets_, false)) watched.clear();
      if (ends_ && watched.empty()) return;
      looking = std::unique_lock(looking_);
    }
    const auto failure = look_at(watched);
    looking.unlock();
    if (failure.empty()) continue;
    on_failure_(failure);
    return;
  }
}

std::string ExchangeWatch::look_at(std::vector<Watched>& watched) const {
  std::erase_if(watched, [](const Watched& one) { return one.exchange->is_done(); });
  for (const auto& [exchange, deadline] : watched) {
    if (const auto fault = exchange->fault(); !fault.empty()) return exchange->describe() + " has failed: " + fault;
    if (Clock::now() > deadline) {
      return exchange->describe() + " is not done after " + std::to_string(timeout_.count() / 1000) +
             " seconds (parallel.timeout_seconds): a rank of the group is gone, stuck or elsewhere";
    }
  }
  return {};
}

}  // namespace switchyard
