#include "core/kernels/addition_kernels.h"

#include <ATen/ATen.h>

#include "core/kernels/arithmetic.h"
#include "core/kernels/rows.h"
#include "core/kernels/vectorised.h"

namespace switchyard::kernels {
namespace {

struct AddWidenedRow {
  SWITCHYARD_INLINED void row(int64_t r) const {
    float* to = sum[r];
    const c10::BFloat16* from = term[r];
    const int64_t width = sum.width();
#pragma omp simd
    for (int64_t d = 0; d < width; ++d) to[d] += widened(from[d]);
  }

  Rows<float> sum;
  Rows<const c10::BFloat16> term;
};

bool has_kernel(const at::Tensor& sum, const at::Tensor& term) {
  return sum.is_cpu() && sum.scalar_type() == at::kFloat && term.scalar_type() == at::kBFloat16 && sum.dim() > 0 &&
         sum.sizes() == term.sizes() && RowLayout::fits(sum) && RowLayout::fits(term);
}

}  // namespace

void add_to(at::Tensor sum, const at::Tensor& term) {
  if (!has_kernel(sum, term)) {
    sum.add_(term);
    return;
  }
  const AddWidenedRow kernel{Rows<float>(sum), Rows<const c10::BFloat16>(term)};
  for_each_row(kernel.sum.num_rows(), kernel.sum.width(), kernel);
}

void add_product(at::Tensor sum_MN, const at::Tensor& a_MK, const at::Tensor& b_KN) {
  if (sum_MN.scalar_type() == a_MK.scalar_type()) {
    sum_MN.addmm_(a_MK, b_KN);
  } else {
    add_to(sum_MN, at::mm(a_MK, b_KN));
  }
}

}  // namespace switchyard::kernels
