// Notices exchanges that do not end. On a device nobody waits for them on the host: a kernel whose peer is gone spins for ever, and the
// host stands in the next copy back, where no deadline reaches it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace switchyard {

/// An exchange that a device carries out. Called on the watch's thread.
class DeviceExchange {
 public:
  virtual ~DeviceExchange() = default;
  virtual bool is_done() const = 0;
  /// What went wrong, in the library's words; empty = nothing so far.
  virtual std::string fault() const = 0;
  /// "all_to_all on rank 1 of 4"
  virtual std::string describe() const = 0;
};

/// One thread that looks at every exchange under way.
class ExchangeWatch {
 public:
  /// on_failure is called on the watch's thread with one sentence, once: for the first exchange that reports a fault or is not done
  /// `timeout` after it was added. After that nothing is watched any more.
  ExchangeWatch(std::chrono::milliseconds timeout, std::function<void(const std::string&)> on_failure);
  ExchangeWatch(const ExchangeWatch&) = delete;
  ExchangeWatch& operator=(const ExchangeWatch&) = delete;
  /// Returns when every exchange is done, or one has failed.
  ~ExchangeWatch();

  void add(std::unique_ptr<DeviceExchange> exchange);
  /// Lets go of what is under way: nobody waits for it any more, and once this returns nobody looks at it (unless a look takes seconds).
  void forget();

 private:
  using Clock = std::chrono::steady_clock;
  struct Watched {
    std::unique_ptr<DeviceExchange> exchange;
    Clock::time_point deadline;
  };

  void run();
  /// The sentence for on_failure; empty while all is well. Drops those that are done.
  std::string look_at(std::vector<Watched>& watched) const;

  std::chrono::milliseconds timeout_;
  std::function<void(const std::string&)> on_failure_;
  std::mutex mutex_;
  std::timed_mutex looking_;  ///< held while exchanges are looked at; taken under mutex_
  std::condition_variable changed_;
  std::vector<Watched> added_;
  bool forgets_ = false;
  bool ends_ = false;
  std::thread thread_;  ///< last: it uses the members above
};

}  // namespace switchyard
