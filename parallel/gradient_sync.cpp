#include "parallel/gradient_sync.h"

#include <cmath>

namespace switchyard {
namespace {

at::Tensor square_sum(const at::Tensor& gradients) {
  return at::linalg_vector_norm(gradients, 2, {}, false, at::kDouble).square();
}

}  // namespace

void sum_gradients(ParameterStore& store, const ProcessMesh& mesh) {
  const auto dense = mesh.group("data")->all_reduce_sum(store.dense().gradients);
  dense->wait();
  const auto experts = mesh.group("expert_data")->all_reduce_sum(store.experts().gradients);
  experts->wait();
}

double gradient_norm(ParameterStore& store, const ProcessMesh& mesh) {
  auto experts = square_sum(store.experts().gradients);
  mesh.group("expert")->all_reduce_sum(experts)->wait();
  return std::sqrt((square_sum(store.dense().gradients) + experts).item<double>());
}

}  // namespace switchyard
