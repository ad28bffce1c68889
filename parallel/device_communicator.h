// Two communicators as one: what steers a run (hashes, texts, wishes to stop) lies on the host and travels there; what is computed lies on
// a device and travels between devices.
#pragma once

#include <functional>

#include "parallel/communicator.h"

namespace switchyard {

using TensorPredicate = std::function<bool(const at::Tensor&)>;

/// Tensors for which `is_on_device` holds go by `device`, all others by `host`; the ranks of both must be the same. Barriers are the
/// host's: they order the ranks' threads, not their devices. Groups split both. abort() ends the devices' exchanges, then the job.
/// Collective.
CommunicatorPtr make_device_communicator(CommunicatorPtr host, CommunicatorPtr device, TensorPredicate is_on_device);

/// The same, by where a tensor lies: all but CPU tensors are the device's.
CommunicatorPtr make_device_communicator(CommunicatorPtr host, CommunicatorPtr device);

}  // namespace switchyard
