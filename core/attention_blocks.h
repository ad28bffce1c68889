// Attention on a CPU, by blocks of queries.
#pragma once

#include <ATen/core/Tensor.h>

namespace switchyard {

/// As attend() (core/attention_plan.h) without a sink: for CPU tensors of fp64, fp32 or bf16. No more than a block of scores a thread
/// exists at a time, keys that no query of a block may see are left out, and the heads of a group share their keys as they are (Rabe and
/// Staats 2021, arXiv:2112.05682; backward makes the shares again from one number a row, as Dao et al. 2022, arXiv:2205.14135). Scores are
/// computed in max(fp32, dtype).
at::Tensor attend_by_blocks(const at::Tensor& query_BHSd, const at::Tensor& key_BKPd, const at::Tensor& value_BKPv, const at::Tensor& mask,
                            double scale);

}  // namespace switchyard
