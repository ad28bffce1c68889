// Scalars for TensorBoard, written without protobuf: an event file is a TFRecord file of `Event` messages.
// Formats: tensorflow/core/lib/io/record_writer.h (frames) and tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

namespace switchyard {

/// Seconds since 1970.
double wall_clock_seconds();

/// One event file in a folder that TensorBoard watches.
class TensorBoardWriter {
 public:
  /// Makes `folder` and a new file in it. `first_step`: where this process begins; in a resumed run (first_step > 1) TensorBoard is told to
  /// forget what an earlier file has from that step on. `clock` gives the wall time of events. Errors: RunError with the system's reason.
  TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step, std::function<double()> clock = wall_clock_seconds);

  /// `value` is stored as fp32, the format's type. Errors: RunError when the file cannot be written.
  void add_scalar(const std::string& tag, int64_t step, double value);
  void flush();
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_event(const std::string& fields);

  std::function<double()> clock_;
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace switchyard
