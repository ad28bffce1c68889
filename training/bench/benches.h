// The benchmarks of `switchyard bench`, one file each.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "training/bench/bench_report.h"
#include "training/bench/measurement.h"
#include "training/run_config.h"

namespace switchyard {

struct BenchInputs {
  RunConfig config;
  CommunicatorPtr world;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  Repetitions repetitions = {};
  std::string folder = {};  ///< for files; checkpoint alone writes some, and removes them
};

/// Matrix products by dtype and by the shapes of an expert, against a square one of the dtype.
BenchReport bench_gemm(const BenchInputs& inputs);
/// One MoE layer forward and backward, against the bare products at constant equal rows; tokens and the experts' loads change every time.
BenchReport bench_moe_layer(const BenchInputs& inputs);
/// One attention layer forward and backward, against its bare products (all keys, not only those seen).
BenchReport bench_attention(const BenchInputs& inputs);
/// A whole training step, against a square matrix product (its ratio is the MFU), and the time by phase.
BenchReport bench_step(const BenchInputs& inputs);
/// The last linear map and the cross entropy, forward and backward, against its three products.
BenchReport bench_cross_entropy(const BenchInputs& inputs);
/// Exchanges of equal parts by message size, against memcpy and a bare MPI_Alltoallv. Errors: UserError on one rank.
BenchReport bench_all_to_all(const BenchInputs& inputs);
/// Saving the model with its optimizer state, against write and fsync of as many bytes.
BenchReport bench_checkpoint(const BenchInputs& inputs);
/// The optimizer's update with clipping, against at::_fused_adamw_ in fp32 on as many parameters, and against a copy.
BenchReport bench_optimizer(const BenchInputs& inputs);

struct Bench {
  const char* name;
  const char* purpose;
  BenchReport (*run)(const BenchInputs& inputs);
};
const std::vector<Bench>& benches();

/// `layers` beside `products`, the row "gemms": the matrix products of one of them alone, which are their limit. All do as much.
BenchReport measure_beside_products(const std::string& benchmark, const BenchInputs& inputs, std::function<void()> products,
                                    std::vector<BenchItem> layers);

/// The settings that the report shows: key and value.
using BenchSettings = std::vector<std::pair<std::string, std::string>>;
BenchSettings model_settings(const BenchInputs& inputs);

}  // namespace switchyard
