#include "training/joint_failure.h"

#include <algorithm>
#include <cstring>

namespace switchyard {
namespace {

std::string or_unnamed(const std::string& message) {
  return message.empty() ? "an error without a message" : message;
}

/// Empty when the work succeeded.
std::string failure_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const c10::Error& error) {
    return or_unnamed(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return or_unnamed(error.what());
  }
  return "";
}

}  // namespace

void succeed_or_fail_together(Communicator& world, const std::function<void()>& work) {
  const auto failures = gather_texts(world, failure_of(work));
  const auto has_failed = [](const std::string& failure) { return !failure.empty(); };
  const auto first = std::ranges::find_if(failures, has_failed);
  if (first == failures.end()) return;
  const auto num_failed = std::ranges::count_if(failures, has_failed);
  std::string message = "[rank " + std::to_string(first - failures.begin()) + "/" + std::to_string(world.size()) + "] " + *first;
  if (num_failed > 1) message += " (" + std::to_string(num_failed) + " ranks failed; this is the first)";
  throw JointFailure(message);
}

std::vector<std::string> gather_texts(Communicator& world, std::string_view text) {
  const at::Tensor lengths = world.all_gather(at::full({1}, static_cast<int64_t>(text.size()), at::kLong)).flatten();
  const int64_t longest = lengths.max().item<int64_t>();
  std::vector<std::string> texts(static_cast<size_t>(world.size()));
  if (longest == 0) return texts;
  at::Tensor padded = at::zeros({longest}, at::kByte);
  std::ranges::copy(text, static_cast<char*>(padded.mutable_data_ptr()));
  const at::Tensor gathered = world.all_gather(padded).contiguous();
  const char* row = static_cast<const char*>(gathered.const_data_ptr());
  for (int64_t rank = 0; rank < world.size(); ++rank, row += longest) {
    texts[static_cast<size_t>(rank)].assign(row, static_cast<size_t>(lengths[rank].item<int64_t>()));
  }
  return texts;
}

}  // namespace switchyard
