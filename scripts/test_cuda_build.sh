#!/usr/bin/env bash
# What can be known of the CUDA build without a GPU: everything compiles (warnings are errors) and links against LibTorch with CUDA and the
# NCCL of its wheel, starts with every symbol found at once, and passes the tests that need no GPU but speak of one; and the CPU build links
# against the NCCL of the system's CUDA toolkit, where there is one. Needs 5.7 GB for the wheel and about 15 minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "test_cuda_build: FAILED: $*" >&2
  exit 1
}

# library_of BINARY NAME: the file that the loader takes for libNAME.
library_of() { ldd "$1" | awk -v name="lib$2." 'index($1, name) == 1 {print $3}'; }

# check_links PRESET: lazy binding would hide a library that lacks symbols until they are called, such as a wrong NCCL's.
check_links() {
  local binary=build/$1/switchyard
  LD_BIND_NOW=1 "$binary" --version || fail "$binary does not start with all symbols bound"
  nccl=$(library_of "build/$1/parallel/libswitchyard_parallel.so" nccl)
}

scripts/build.sh cuda
check_links cuda
[[ -n $(library_of build/cuda/switchyard torch_cuda) ]] || fail "build/cuda/switchyard does not load torch_cuda"
[[ $nccl == */nvidia/nccl/lib/* ]] || fail "the CUDA build loads ${nccl:-no NCCL}, not the wheel's"
echo "test_cuda_build: the preset cuda links against the wheel's NCCL, $nccl"
LD_BIND_NOW=1 ctest --preset cuda -R 'Nccl|DeviceCommunicator|ExchangeWatch|HostCopy'

scripts/build.sh release switchyard
check_links release
if [[ -n $nccl ]]; then
  echo "test_cuda_build: the preset release links against $nccl"
else
  echo "test_cuda_build: the preset release is without NCCL: no toolkit with it was found here, so that link was NOT TESTED"
fi
