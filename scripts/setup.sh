#!/usr/bin/env bash
# Installs what Switchyard needs: system packages (Debian, Ubuntu) and LibTorch in the virtual environment .venv (with CUDA: .venv-cuda). Run
# it as often as you like: it looks at the files themselves, and does only what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TORCH_VERSION=2.15.0
# Loader dependencies of libtorch_cpu.so in the CUDA-built wheel; without the rest of its dependencies it is 1.3 GB instead of 5.4 GB.
readonly SLIM_TORCH=("torch==$TORCH_VERSION" "nvidia-cuda-runtime==13.2.*" "nvidia-cuda-cupti==13.2.*")
readonly PLOT_TOOLS=("numpy==2.*" "matplotlib==3.*" "tokenizers==0.23.*")
readonly VERIFY_TOOLS=("torch==$TORCH_VERSION" "transformers==5.23.0" "safetensors==0.8.*" "numpy==2.*")
readonly PEERS=("torch==$TORCH_VERSION" "transformers==5.23.0" "deepspeed==0.19.8" "numpy==2.*")
readonly SYSTEM_PACKAGES=(
  build-essential cmake ninja-build ccache pkg-config git ca-certificates   # build
  libopenmpi-dev openmpi-bin libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libspdlog-dev libfmt-dev libxxhash-dev libgtest-dev
  libgoogle-perftools-dev                                                   # tcmalloc
  python3 python3-venv                                                      # the virtual environments
  bible-kjv wordnet-base xz-utils gzip                                      # the quickstart's corpus, and what it is compared with
  iproute2                                                                  # scripts/test_two_hosts.sh
  clang-format)                                                             # scripts/check_style.sh

usage() {
  cat <<'TEXT'
usage: scripts/setup.sh [--cuda] [--tools] [--verify] [--peers]

  (none)    system packages, and LibTorch for the CPU in .venv (the torch wheel without its CUDA libraries, 1.3 GB)
  --cuda    the torch wheel with its CUDA libraries, and nvcc, in .venv-cuda (5.7 GB), for `cmake --preset cuda`
  --tools   .venv-tools for scripts/plot.py and scripts/prepare_data.py (numpy, matplotlib, tokenizers)
  --verify  .venv-verify for scripts/verify_export.py and scripts/test_parity.sh (the full torch wheel and transformers, 6 GB)
  --peers   .venv-peers for scripts/bench_peers (the full torch wheel, transformers and DeepSpeed, 6 GB)

With LIBTORCH_ROOT set (a folder with include/ and lib/), that LibTorch is used and none is installed.
TEXT
}

say() { echo "setup: $*"; }

fail() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

# timed WHAT COMMAND...: runs the command, its output in a log that is shown only when it fails.
timed() {
  local what=$1 log start=$SECONDS
  shift
  say "installing $what ..."
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
  say "installed $what in $((SECONDS - start)) s"
}

# --- system packages ------------------------------------------------------------------------------------------------------------------

is_debian() { command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; }

missing_packages() {
  local installed package
  installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${SYSTEM_PACKAGES[@]}" 2>/dev/null || true)
  for package in "${SYSTEM_PACKAGES[@]}"; do
    grep -qx "$package installed" <<<"$installed" || echo "$package"
  done
}

apt_install() {
  local as_root=()
  ((EUID == 0)) || as_root=(sudo)
  # An update that fails for one of several sources may still have fetched what is needed: the installation decides.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

install_system_packages() {
  local missing
  is_debian || return 0
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    say "not root and no sudo: cannot install ${missing[*]}"
    return 0
  fi
  say "missing: ${missing[*]}"
  timed "${#missing[@]} system packages" apt_install "${missing[@]}" || say "apt-get failed (no network?)"
}

missing_commands() {
  local entry
  for entry in "g++:build-essential" cmake:cmake ninja:ninja-build git:git mpicc:libopenmpi-dev mpirun:openmpi-bin \
    pkg-config:pkg-config python3:python3 clang-format:clang-format gzip:gzip xz:xz-utils; do
    command -v "${entry%%:*}" >/dev/null || echo "command ${entry%%:*} (package ${entry##*:})"
  done
}

missing_headers() {
  command -v g++ >/dev/null || return 0
  local entry
  for entry in yaml-cpp/yaml.h:libyaml-cpp-dev CLI/CLI.hpp:libcli11-dev nlohmann/json.hpp:nlohmann-json3-dev spdlog/spdlog.h:libspdlog-dev fmt/format.h:libfmt-dev xxhash.h:libxxhash-dev \
    gtest/gtest.h:libgtest-dev gperftools/tcmalloc.h:libgoogle-perftools-dev; do
    printf '#if !__has_include(<%s>)\nmissing header %s (package %s)\n#endif\n' "${entry%%:*}" "${entry%%:*}" "${entry##*:}"
  done | g++ -std=c++20 -E -P -x c++ - | sed -n 's/^missing //p'
}

# older_than MINIMUM VERSION
older_than() { [[ $1 != "$2" && $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; }

old_versions() {
  local version
  if command -v cmake >/dev/null; then
    version=$(cmake --version | sed -n '1s/.*version //p')
    ! older_than 3.25 "$version" || echo "cmake 3.25 or newer (found $version; \`pip install cmake\` has a newer one)"
  fi
  if command -v g++ >/dev/null; then
    version=$(g++ -dumpfullversion)
    ! older_than 12 "$version" || echo "g++ 12 or newer (found $version)"
  fi
}

check_system() {
  local missing
  missing=$({ missing_commands; missing_headers; old_versions; } | sed 's/^/  - /')
  [[ -z $missing ]] || fail "this system lacks:" "$missing" \
    "On Debian 12 or Ubuntu 24.04, with a network and root or sudo, this script installs them:" \
    "  apt-get install ${SYSTEM_PACKAGES[*]}" \
    "Elsewhere, install the same software by other means (commands on PATH, headers where g++ finds them, e.g. through CPATH)" \
    "and run this script again."
  command -v bible >/dev/null || say "note: no command \`bible\` (package bible-kjv): scripts/prepare_corpus.sh cannot make the quickstart's corpus"
}

# --- virtual environments -------------------------------------------------------------------------------------------------------------

# The system's own python3 first: a version manager's shim may point at a Python that is removed later.
find_python() {
  local candidate
  for candidate in /usr/bin/python3 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python 3.10 or newer that can make virtual environments (Debian, Ubuntu: apt-get install python3-venv)"
}

make_environment() {
  local folder=$1 python
  ! "$folder/bin/python" -m pip --version >/dev/null 2>&1 || return 0
  python=$(find_python)
  rm -rf "$folder"  # half made (python3-venv was missing), moved, or its Python is gone
  "$python" -m venv "$folder"
}

# has_packages FOLDER REQUIREMENT...: every requirement is installed with a version that fits, and every file of it is there in full size.
has_packages() {
  local folder=$1
  shift
  [[ -x $folder/bin/python ]] && "$folder/bin/python" - "$@" <<'PYTHON'
import fnmatch, os, sys
from importlib.metadata import PackageNotFoundError, distribution

for requirement in sys.argv[1:]:
    name, version = requirement.split("==")
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        sys.exit(1)
    if not fnmatch.fnmatch(installed.version.split("+")[0], version) or installed.files is None:
        sys.exit(1)
    for file in installed.files:
        path = os.fspath(installed.locate_file(file))
        if file.size is not None and not (os.path.exists(path) and os.path.getsize(path) == file.size):
            sys.exit(1)
PYTHON
}

# is_ready FOLDER IMPORTS REQUIREMENT...
is_ready() {
  local folder=$1 imports=$2
  shift 2
  has_packages "$folder" "$@" && { [[ -z $imports ]] || "$folder/bin/python" -c "import $imports" 2>/dev/null; }
}

# ensure_environment FOLDER WHAT IMPORTS REQUIREMENT...: IMPORTS are the modules that must load. Empty: nothing will run Python there, so
# the requirements are installed without their dependencies.
ensure_environment() {
  local folder=$1 what=$2 imports=$3 options=(--disable-pip-version-check)
  shift 3
  ! is_ready "$folder" "$imports" "$@" || return 0
  make_environment "$folder"
  [[ -n $imports ]] || options+=(--no-deps)
  timed "$what in $folder" "$folder/bin/python" -m pip install "${options[@]}" "$@" || fail_offline "$what"
  ! is_ready "$folder" "$imports" "$@" || return 0
  # pip takes a distribution whose files were damaged for installed.
  timed "$what in $folder again (files were missing)" "$folder/bin/python" -m pip install --force-reinstall "${options[@]}" "$@" ||
    fail_offline "$what"
  is_ready "$folder" "$imports" "$@" || fail "$what in $folder is still incomplete after its installation; remove $folder and try again"
}

fail_offline() {
  fail "pip could not install $1 (the last lines above say why). Ways out without a network:" \
    "  - LIBTORCH_ROOT=/path/to/libtorch scripts/setup.sh, with any LibTorch $TORCH_VERSION (C++11 ABI) unpacked there" \
    "  - a folder of wheels made elsewhere, by \`pip download --no-deps ${SLIM_TORCH[*]}\` (same Python version, x86_64 or" \
    "    aarch64 Linux), then PIP_NO_INDEX=1 PIP_FIND_LINKS=/path/to/wheels scripts/setup.sh" \
    "  - a mirror of the package index: PIP_INDEX_URL=https://... scripts/setup.sh"
}

check_own_libtorch() {
  local file
  for file in lib/libtorch_cpu.so lib/libc10.so include/torch/csrc/api/include/torch/all.h; do
    [[ -e $LIBTORCH_ROOT/$file ]] || fail "LIBTORCH_ROOT=$LIBTORCH_ROOT holds no $file; point it at a folder with include/ and lib/, or unset it"
  done
  say "using LIBTORCH_ROOT=$LIBTORCH_ROOT"
}

# DeepSpeed comes as source: none of its extensions is compiled, and it is told that there is no GPU.
ensure_peers() {
  local -x DS_BUILD_OPS=0 DS_ACCELERATOR=cpu
  ensure_environment .venv-peers "other frameworks to compare with and the full torch wheel (6 GB)" "torch, transformers, deepspeed" "${PEERS[@]}"
}

ensure_libtorch() {
  local cuda=$1
  if [[ -n ${LIBTORCH_ROOT:-} ]]; then
    check_own_libtorch
  elif ((cuda)); then
    ensure_environment .venv-cuda "LibTorch $TORCH_VERSION with CUDA and nvcc (5.7 GB)" torch "torch==$TORCH_VERSION" "nvidia-cuda-nvcc==13.2.*" "nvidia-cuda-crt==13.2.*" "nvidia-nvvm==13.2.*"
  else
    ensure_environment .venv "LibTorch $TORCH_VERSION for the CPU (1.3 GB)" "" "${SLIM_TORCH[@]}"
  fi
}

main() {
  local cuda=0 tools=0 verify=0 peers=0 argument
  for argument in "$@"; do
    case $argument in
      --cuda) cuda=1 ;;
      --tools) tools=1 ;;
      --verify) verify=1 ;;
      --peers) peers=1 ;;
      -h | --help) usage && exit 0 ;;
      *) usage >&2 && exit 2 ;;
    esac
  done
  install_system_packages
  check_system
  ensure_libtorch "$cuda"
  ((!tools)) || ensure_environment .venv-tools "tools for plots and data" "numpy, matplotlib, tokenizers" "${PLOT_TOOLS[@]}"
  ((!verify)) || ensure_environment .venv-verify "transformers and the full torch wheel (6 GB)" "torch, transformers, safetensors, numpy" "${VERIFY_TOOLS[@]}"
  ((!peers)) || ensure_peers
  say "everything is in place ($SECONDS s)"
}

main "$@"
