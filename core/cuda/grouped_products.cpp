#include "core/cuda/grouped_products.h"

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/Exceptions.h>
#include <c10/cuda/CUDAGuard.h>

#include "core/host_copy.h"

namespace switchyard::cuda {
namespace {

/// What cublasGemmGroupedBatchedEx takes: on the host, group by group (each of one product), but for the matrices' places.
struct GroupedArguments {
  explicit GroupedArguments(const std::vector<MatrixProduct>& products)
      : place_3G(at::empty({3, static_cast<int64_t>(products.size())}, at::kLong)) {
    auto place = place_3G.accessor<int64_t, 2>();
    for (size_t g = 0; g < products.size(); ++g) {
      const auto blas = blas_product(products[g]);
      const auto operation = [](const BlasOperand& operand) { return operand.is_transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
      left_operation.push_back(operation(blas.left));
      right_operation.push_back(operation(blas.right));
      m.push_back(blas.m);
      n.push_back(blas.n);
      k.push_back(blas.k);
      left_leading.push_back(blas.left.leading);
      right_leading.push_back(blas.right.leading);
      result_leading.push_back(blas.result_leading);
      const auto group = static_cast<int64_t>(g);
      place[0][group] = reinterpret_cast<int64_t>(products[g].b_KN.const_data_ptr());
      place[1][group] = reinterpret_cast<int64_t>(products[g].a_MK.const_data_ptr());
      place[2][group] = reinterpret_cast<int64_t>(products[g].c_MN.data_ptr());
    }
  }

  std::vector<cublasOperation_t> left_operation, right_operation;
  std::vector<int64_t> m, n, k, left_leading, right_leading, result_leading;
  at::Tensor place_3G;  ///< left, right, result
};

struct CublasTypes {
  cudaDataType_t element;
  cublasComputeType_t compute;
};

CublasTypes cublas_types(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return {CUDA_R_64F, CUBLAS_COMPUTE_64F};
    case at::kFloat:
      return {CUDA_R_32F, CUBLAS_COMPUTE_32F};
    case at::kBFloat16:
      return {CUDA_R_16BF, CUBLAS_COMPUTE_32F};
    default:
      TORCH_CHECK(false, "grouped products: fp64, fp32 or bf16, got ", dtype);
  }
}

/// scale_t: what factors are given in.
template <typename scale_t>
void call_cublas(const GroupedArguments& arguments, const at::Tensor& place_3G, CublasTypes types, bool adds) {
  const auto num_groups = static_cast<int64_t>(arguments.m.size());
  const std::vector<scale_t> alpha(arguments.m.size(), 1), beta(arguments.m.size(), adds ? 1 : 0);
  const std::vector<int64_t> group_size(arguments.m.size(), 1);
  void** places = reinterpret_cast<void**>(place_3G.data_ptr<int64_t>());
  TORCH_CUDABLAS_CHECK(cublasGemmGroupedBatchedEx_64(
      at::cuda::getCurrentCUDABlasHandle(), arguments.left_operation.data(), arguments.right_operation.data(), arguments.m.data(),
      arguments.n.data(), arguments.k.data(), alpha.data(), places, types.element, arguments.left_leading.data(), places + num_groups,
      types.element, arguments.right_leading.data(), beta.data(), places + 2 * num_groups, types.element, arguments.result_leading.data(),
      num_groups, group_size.data(), types.compute));
}

}  // namespace

bool has_grouped_kernel(const at::Tensor& tensor) {
  // Hopper and the Blackwell of data centres, as LibTorch (aten/src/ATen/native/cuda/GroupedBlas.cpp) has it.
  const auto* properties = at::cuda::getDeviceProperties(tensor.get_device());
  return tensor.scalar_type() == at::kBFloat16 && (properties->major == 9 || properties->major == 10) && properties->minor == 0;
}

void multiply_all(const std::vector<MatrixProduct>& products, bool adds) {
  const auto& first = products.front().c_MN;
  const c10::cuda::CUDAGuard guard(first.device());
  const GroupedArguments arguments(products);
  const auto place_3G = to_device(arguments.place_3G, first.device());
  const auto call = first.scalar_type() == at::kDouble ? call_cublas<double> : call_cublas<float>;
  call(arguments, place_3G, cublas_types(first.scalar_type()), adds);
}

}  // namespace switchyard::cuda
