#!/usr/bin/env bash
# clang-tidy over the sources changed since a commit (default: the last common one with main): scripts/tidy.sh [COMMIT | --all]
# Too slow for every test run: a file that includes LibTorch takes a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "tidy: $*" >&2
  exit 1
}

command -v clang-tidy >/dev/null || fail "no clang-tidy here (Debian, Ubuntu: apt-get install clang-tidy)"
[[ -f build/release/compile_commands.json ]] || fail "no build/release/compile_commands.json; run scripts/build.sh first"

since=${1:-$(git merge-base HEAD main)}
if [[ $since == --all ]]; then
  mapfile -t files < <(git ls-files '*.cpp')
else
  mapfile -t files < <({ git diff --name-only --diff-filter=d "$since" -- '*.cpp' && git ls-files --others --exclude-standard '*.cpp'; } | sort -u)
fi
if ((${#files[@]} == 0)); then
  echo "tidy: no source changed since $since"
  exit 0
fi

# GCC's precompiled header means nothing to clang: include the header itself.
mkdir -p build/tidy
sed -E "s# -Winvalid-pch##g; s# -include [^ ]*cmake_pch\.hxx# -include $PWD/core/precompiled.h#g" \
  build/release/compile_commands.json >build/tidy/compile_commands.json
printf '%s\n' "${files[@]}" | xargs -P "$(scripts/usable_cpus.sh)" -n 1 clang-tidy -p build/tidy --quiet --warnings-as-errors='*'
echo "tidy: ${#files[@]} files are clean"
