// MPI as a whole: its version, and the end of the job.
#include <cstdio>
#include <string>

#include <mpi.h>

#include "parallel/communicator.h"

namespace switchyard {

void abort_job(int exit_code) {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  std::fflush(nullptr);
  if (started && !ended) MPI_Abort(MPI_COMM_WORLD, exit_code);
}

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string version(text, length);  // "Open MPI v4.1.4, package: ...", "MPICH Version:\t4.0.2\n..."
  return version.substr(0, version.find_first_of(",\n"));
}

}  // namespace switchyard
