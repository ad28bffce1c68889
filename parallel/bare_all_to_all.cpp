#include "parallel/bare_all_to_all.h"

#include <vector>

#include "parallel/mpi_group.h"

namespace switchyard {

void bare_mpi_all_to_all(const at::Tensor& send, at::Tensor receive) {
  int ranks = 1;
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &ranks), "MPI_Comm_size");
  const int part = static_cast<int>(static_cast<int64_t>(send.nbytes()) / ranks);
  const std::vector<int> counts(static_cast<size_t>(ranks), part);
  std::vector<int> starts(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) starts[static_cast<size_t>(rank)] = rank * part;
  check_mpi(MPI_Alltoallv(send.const_data_ptr(), counts.data(), starts.data(), MPI_BYTE, receive.data_ptr(), counts.data(), starts.data(),
                          MPI_BYTE, MPI_COMM_WORLD),
            "MPI_Alltoallv");
}

}  // namespace switchyard
