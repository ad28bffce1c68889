// The parameters of any module that has our MoE layers inside, as whoever initialises, stores or reduces them must see them.
#pragma once

#include <vector>

#include <torch/nn/module.h>

#include "core/parameter_store.h"

namespace switchyard {

/// Every parameter under its name in `module`, in the order of registration. Of parameters inside the experts of a MoeLayer, num_experts
/// and first_expert say which of the whole model's experts stand here: their gradients already hold the tokens of all ranks of the expert
/// group, those of all others (num_experts = 0) must be summed over the ranks. Weight decay is for matrices that are no biases.
std::vector<NamedParameter> parameters_by_name(const torch::nn::Module& module);

}  // namespace switchyard
