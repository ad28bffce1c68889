// What `switchyard bench` measures, in the words of the configuration: the same keys as training, with short forms for those that
// benchmarks ask for most.
#pragma once

#include <string>
#include <vector>

#include "training/run_config.h"

namespace switchyard {

/// The short forms and what they stand for, for --help: "experts = model.moe.num_experts, ...".
std::string bench_short_forms();

/// A small Mixtral (4 layers, D 512, 8 heads, 4 key-value heads, 8 experts of width 1024, top-2, vocabulary 8192, 4 x 512 tokens), or
/// `config_path` where it is not empty, with `settings` (key=value; short forms too). tokens=N: all tokens of a step, over the batch.
/// Errors: UserError, as load_run_config.
RunConfig load_bench_config(const std::string& config_path, const std::vector<std::string>& settings, int64_t world_size);

}  // namespace switchyard
