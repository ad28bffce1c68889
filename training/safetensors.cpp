#include "training/safetensors.h"

#include <cstring>

#include "core/error.h"
#include "training/durable_file.h"
#include "training/safetensors_header.h"

namespace switchyard {

std::map<std::string, SafetensorsEntry> write_safetensors(const std::filesystem::path& path,
                                                          const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                                                          const std::map<std::string, std::string>& metadata) {
  std::pair<std::string, SafetensorsHeader> header;
  try {
    header = make_safetensors_header(tensors, metadata);
  } catch (const UserError& fault) {
    throw RunError(path.string() + ": cannot be written: " + fault.what());
  }
  DurableFile file(path);
  file.write(header.first.data(), header.first.size());
  for (const auto& [name, tensor] : tensors) {
    TORCH_CHECK(tensor.device().is_cpu(), "write_safetensors: tensor ", name, " is on ", tensor.device(), ", not on the CPU");
    const at::Tensor contiguous = tensor.contiguous();
    file.write(contiguous.const_data_ptr(), contiguous.nbytes());
  }
  file.commit();
  return std::move(header.second.entries);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  try {
    SafetensorsHeader header = parse_safetensors_header(file_.view());
    entries_ = std::move(header.entries);
    metadata_ = std::move(header.metadata);
  } catch (const UserError& fault) {
    throw UserError(path.string() + ": not a valid safetensors file: " + fault.what());
  }
}

at::Tensor SafetensorsFile::read(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw UserError(file_.path().string() + ": has no tensor \"" + name + "\"");
  const SafetensorsEntry& entry = found->second;
  at::Tensor tensor = at::empty(entry.shape, entry.dtype);
  if (entry.length > 0) std::memcpy(tensor.mutable_data_ptr(), bytes(entry), static_cast<size_t>(entry.length));
  return tensor;
}

const char* SafetensorsFile::bytes(const SafetensorsEntry& entry) const {
  return file_.data() + entry.begin;
}

}  // namespace switchyard
