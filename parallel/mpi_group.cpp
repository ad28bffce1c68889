#include "parallel/mpi_group.h"

#include <exception>
#include <numeric>
#include <string>

#include "core/error.h"

namespace switchyard {
namespace {

void start_mpi() {
  int started = 0;
  MPI_Initialized(&started);
  if (started) throw RunError("make_mpi_communicator: MPI can be started only once in a process");
  // Backward of CUDA tensors runs on a thread of autograd's, while the one that called it waits: one at a time, but not always the same.
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_SERIALIZED) throw RunError("MPI_Init_thread: this MPI can be called from one thread only");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

int64_t find_node(int size) {
  MPI_Comm machine = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, /*key=*/0, MPI_INFO_NULL, &machine), "MPI_Comm_split_type");
  int first = 0;
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &first), "MPI_Comm_rank");
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, machine), "find_node");
  std::vector<int> first_of(size);
  check_mpi(MPI_Allgather(&first, 1, MPI_INT, first_of.data(), 1, MPI_INT, MPI_COMM_WORLD), "find_node");
  check_mpi(MPI_Comm_free(&machine), "MPI_Comm_free");
  int64_t node = 0;
  for (int r = 0; r < first; ++r) node += first_of[r] == r;
  return node;
}

std::vector<int64_t> find_world_ranks(MPI_Comm comm, int size) {
  std::vector<int> ranks(size), of_world(size);
  std::iota(ranks.begin(), ranks.end(), 0);
  MPI_Group group = MPI_GROUP_NULL, world = MPI_GROUP_NULL;
  check_mpi(MPI_Comm_group(comm, &group), "MPI_Comm_group");
  check_mpi(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
  check_mpi(MPI_Group_translate_ranks(group, size, ranks.data(), world, of_world.data()), "MPI_Group_translate_ranks");
  MPI_Group_free(&group);
  MPI_Group_free(&world);
  return {of_world.begin(), of_world.end()};
}

}  // namespace

void check_mpi(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw RunError(std::string(operation) + ": " + std::string(text, length));
}

MpiSession::MpiSession(int64_t timeout_seconds, Progress* progress) : timeout_seconds_(timeout_seconds), progress_(progress) {
  const BoundedCall call(progress, call_limit(), "the start of MPI, where all ranks meet,");
  start_mpi();
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  node_ = find_node(size_);
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > 0) return;
  const BoundedCall call(progress_, call_limit(), "MPI_Finalize");
  MPI_Finalize();
}

MpiGroup::MpiGroup(std::shared_ptr<const MpiSession> session_of_job, MPI_Comm comm_of_group, int64_t message_limit)
    : session(std::move(session_of_job)), comm(comm_of_group), max_message_bytes(message_limit) {
  check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm, &size), "MPI_Comm_size");
  world_ranks = find_world_ranks(comm, size);
}

}  // namespace switchyard
