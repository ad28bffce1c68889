// One MPI operation under way. Every wait polls a non-blocking operation under a deadline, so that a dead or stuck peer becomes an error
// with a name, not a hang. Internal to the mpi_*.cpp files, the only ones that see mpi.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <mpi.h>

#include "parallel/communicator.h"

namespace switchyard {

/// Errors: RunError with MPI's own words.
void check_mpi(int code, const char* operation);

/// MPI counts in int: rows, not bytes, are counted, and more than fit are refused.
int to_count(int64_t count, const char* operation);

/// `bytes` bytes as one MPI element.
class RowType {
 public:
  RowType(int64_t bytes, const char* operation) {
    check_mpi(MPI_Type_contiguous(to_count(bytes, operation), MPI_BYTE, &type_), operation);
    check_mpi(MPI_Type_commit(&type_), operation);
  }
  RowType(const RowType&) = delete;
  RowType& operator=(const RowType&) = delete;
  /// MPI keeps the type until the exchanges that use it are done.
  ~RowType() { MPI_Type_free(&type_); }

  MPI_Datatype get() const { return type_; }

 private:
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

/// Where an exchange stands in the job, for messages.
struct Place {
  int64_t rank = 0;
  int64_t size = 1;
  int64_t timeout_seconds = 0;
};

/// What MPI reads and writes until the request is done; must not move or go before.
struct Buffers {
  std::vector<at::Tensor> tensors;
  std::vector<int> send_counts, send_starts, receive_counts, receive_starts;
};

class MpiWork : public Work {
 public:
  MpiWork(const char* operation, Place place) : buffers(std::make_unique<Buffers>()), operation_(operation), place_(place) {}
  ~MpiWork() override;
  void wait() override;

  MPI_Request request = MPI_REQUEST_NULL;
  std::unique_ptr<Buffers> buffers;
  std::function<void()> after;  ///< what is left to do once the bytes are here

 private:
  enum class State { kUnderWay, kDone, kLost };

  void poll();
  [[noreturn]] void throw_late() const;

  const char* operation_;
  Place place_;
  State state_ = State::kUnderWay;
};

}  // namespace switchyard
