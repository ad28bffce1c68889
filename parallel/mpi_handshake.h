// The notices that the ranks of a group exchange beside each of their exchanges. Internal to the mpi_*.cpp files.
#pragma once

#include <string>
#include <vector>

#include "parallel/exchange_notice.h"
#include "parallel/mpi_group.h"

namespace switchyard {

/// Tells every peer which exchange this rank enters, and hears the same of them. A rank's n-th notice on a group meets its peers' n-th.
/// Its notices lie in memory of its own, which may change hands but must not go before all have come and gone.
class MpiHandshake {
 public:
  MpiHandshake(const MpiGroup& group, const ExchangePlan& plan);

  /// Looks at what has come. True when all have. Errors: RunError naming both sides, when a peer has entered another exchange.
  bool poll();
  /// The peers that have not entered the exchange yet, as ranks of the world.
  std::vector<int64_t> missing_ranks() const;

 private:
  std::vector<int64_t> world_ranks_;
  std::vector<ExchangeNotice> sent_, received_;  ///< by peer
  std::vector<MPI_Request> requests_;            ///< receives by peer, then sends by peer
  std::vector<int> finished_;
  int num_pending_ = 0;
};

}  // namespace switchyard
