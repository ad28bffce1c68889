#include "parallel/deadline.h"

#include <future>
#include <thread>

namespace switchyard {

bool ends_within(std::chrono::milliseconds limit, std::function<void()> work) {
  std::packaged_task<void()> task(std::move(work));
  const auto end = task.get_future();
  std::thread(std::move(task)).detach();
  return end.wait_for(limit) == std::future_status::ready;
}

}  // namespace switchyard
