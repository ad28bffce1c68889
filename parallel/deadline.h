// Work that must not hold anybody up.
#pragma once

#include <chrono>
#include <functional>

namespace switchyard {

/// Runs `work` on a thread of its own. True when it ends within `limit` (by an exception too); false otherwise, and then it is left behind:
/// what it uses must live as long as the process. For calls into libraries that may block for ever on the way out.
bool ends_within(std::chrono::milliseconds limit, std::function<void()> work);

}  // namespace switchyard
