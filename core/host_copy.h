// Between the host's memory and a device's. On CPU tensors all of these return what they were given.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

/// `tensor` on the CPU, through page-locked memory. Waits for what the current stream computes: a host synchronisation, so count where it
/// is called.
at::Tensor to_host(const at::Tensor& tensor);

/// A CPU tensor on `device`, through page-locked memory: the host does not wait for the copy, the current stream does.
at::Tensor to_device(const at::Tensor& tensor, at::Device device);

/// The elements of a CPU tensor that holds whole numbers.
std::vector<int64_t> whole_numbers(const at::Tensor& tensor);

}  // namespace switchyard
