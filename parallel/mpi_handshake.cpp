#include "parallel/mpi_handshake.h"

#include <type_traits>

namespace switchyard {
namespace {

static_assert(std::is_trivially_copyable_v<ExchangeNotice>, "it travels byte by byte");

}  // namespace

MpiHandshake::MpiHandshake(const MpiGroup& group, const ExchangePlan& plan)
    : world_ranks_(group.world_ranks),
      sent_(group.size),
      received_(group.size),
      requests_(2 * group.size, MPI_REQUEST_NULL),
      finished_(2 * group.size) {
  const auto position = group.session->position();
  for (int peer = 0; peer < group.size; ++peer) {
    if (peer == group.rank) continue;
    sent_[peer] = notice_for(peer, plan, position);
    check_mpi(MPI_Irecv(&received_[peer], sizeof(ExchangeNotice), MPI_BYTE, peer, kNoticeTag, group.comm, &requests_[peer]),
              plan.operation);
    check_mpi(MPI_Isend(&sent_[peer], sizeof(ExchangeNotice), MPI_BYTE, peer, kNoticeTag, group.comm, &requests_[group.size + peer]),
              plan.operation);
    num_pending_ += 2;
  }
}

bool MpiHandshake::poll() {
  if (num_pending_ == 0) return true;
  int num_finished = 0;
  const auto code =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &num_finished, finished_.data(), MPI_STATUSES_IGNORE);
  check_mpi(code, "handshake");
  num_pending_ -= num_finished;
  for (int i = 0; i < num_finished; ++i) {
    const auto peer = static_cast<size_t>(finished_[i]);
    if (peer < sent_.size()) check_notices_match(sent_[peer], received_[peer], world_ranks_[peer]);
  }
  return num_pending_ == 0;
}

std::vector<int64_t> MpiHandshake::missing_ranks() const {
  std::vector<int64_t> missing;
  for (size_t peer = 0; peer < sent_.size(); ++peer) {
    if (requests_[peer] != MPI_REQUEST_NULL) missing.push_back(world_ranks_[peer]);
  }
  return missing;
}

}  // namespace switchyard
