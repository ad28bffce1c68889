#include "parallel/mpi_exchange.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace switchyard {
namespace {

constexpr int64_t kNumTags = 32768 - kFirstExchangeTag;  ///< up to the highest that every MPI has

/// Calls post(offset, count) for each message that `bytes` bytes go in.
template <class Post>
void in_messages(const MpiGroup& group, int64_t bytes, Post post) {
  for (int64_t offset = 0; offset < bytes; offset += group.max_message_bytes) {
    post(offset, static_cast<int>(std::min(group.max_message_bytes, bytes - offset)));
  }
}

/// The messages of one exchange. Between two ranks they arrive in the order in which they were posted.
class Messages {
 public:
  Messages(MpiGroup& group, MpiWork& work)
      : group_(group), work_(work), tag_(kFirstExchangeTag + static_cast<int>(group.num_exchanges++ % kNumTags)) {}

  void send(const char* memory, int64_t bytes, int64_t peer) {
    in_messages(group_, bytes, [&](int64_t offset, int count) {
      check_mpi(MPI_Isend(memory + offset, count, MPI_BYTE, static_cast<int>(peer), tag_, group_.comm, work_.new_request(peer)),
                work_.operation());
    });
  }

  void receive(char* memory, int64_t bytes, int64_t peer) {
    in_messages(group_, bytes, [&](int64_t offset, int count) {
      check_mpi(MPI_Irecv(memory + offset, count, MPI_BYTE, static_cast<int>(peer), tag_, group_.comm, work_.new_request(peer)),
                work_.operation());
    });
  }

 private:
  MpiGroup& group_;
  MpiWork& work_;
  int tag_;
};

std::vector<int64_t> starts_of(const std::vector<int64_t>& counts) {
  std::vector<int64_t> starts(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), starts.begin(), int64_t{0});
  return starts;
}

/// Calls visit(before, behind) with the ranks that stand 1, 2, ... places before and behind this one in the ring, so that not all ranks
/// send to the same one first.
template <class Visit>
void for_each_pair(const MpiGroup& group, Visit visit) {
  for (int64_t distance = 1; distance < group.size; ++distance) {
    visit((group.rank + group.size - distance) % group.size, (group.rank + distance) % group.size);
  }
}

}  // namespace

void start_all_to_all(MpiGroup& group, MpiWork& work, const void* send, const std::vector<int64_t>& send_bytes, void* receive,
                      const std::vector<int64_t>& receive_bytes) {
  const auto* from = static_cast<const char*>(send);
  auto* to = static_cast<char*>(receive);
  const auto send_starts = starts_of(send_bytes), receive_starts = starts_of(receive_bytes);
  Messages messages(group, work);
  for_each_pair(group, [&](int64_t before, int64_t behind) {
    messages.receive(to + receive_starts[before], receive_bytes[before], before);
    messages.send(from + send_starts[behind], send_bytes[behind], behind);
  });
  const int64_t mine = group.rank;
  TORCH_CHECK(send_bytes[mine] == receive_bytes[mine], work.operation(), ": rank ", mine, " sends itself ", send_bytes[mine],
              " bytes and expects ", receive_bytes[mine]);
  if (send_bytes[mine] > 0) std::memcpy(to + receive_starts[mine], from + send_starts[mine], static_cast<size_t>(send_bytes[mine]));
}

void start_gather(MpiGroup& group, MpiWork& work, void* memory, const std::vector<int64_t>& bytes) {
  auto* place = static_cast<char*>(memory);
  const auto starts = starts_of(bytes);
  const int64_t mine = group.rank;
  Messages messages(group, work);
  for_each_pair(group, [&](int64_t before, int64_t behind) {
    messages.receive(place + starts[before], bytes[before], before);
    messages.send(place + starts[mine], bytes[mine], behind);
  });
}

void start_broadcast(MpiGroup& group, MpiWork& work, void* memory, int64_t bytes, int64_t root) {
  in_messages(group, bytes, [&](int64_t offset, int count) {
    check_mpi(MPI_Ibcast(static_cast<char*>(memory) + offset, count, MPI_BYTE, static_cast<int>(root), group.comm, work.new_request(root)),
              work.operation());
  });
}

}  // namespace switchyard
