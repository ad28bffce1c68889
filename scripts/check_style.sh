#!/usr/bin/env bash
# Checks that need no build: who may include whom, the budget of lines a file, the format, and no paths of somebody's machine.
# Prints every finding and exits 1 if there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CLANG_FORMAT_MAJOR=14  # versions format differently
readonly MAX_LINES=300

findings=0
report() {
  echo "$*" >&2
  findings=$((findings + 1))
}

# Files of the repository, also those not added yet.
list_files() {
  git ls-files --cached --others --exclude-standard -- "$@" | while IFS= read -r file; do [[ ! -f $file ]] || echo "$file"; done
}

if ! git rev-parse --is-inside-work-tree >/dev/null; then
  echo "check_style: it asks git for the files, so it needs a checkout" >&2
  exit 1
fi
mapfile -t CPP_FILES < <(list_files '*.h' '*.cpp' '*.cu' '*.cuh')

# Lines "file:line:included", one an #include, with its < or " in front.
include_lines() { grep -nHE '^[[:space:]]*#[[:space:]]*include' -- "${CPP_FILES[@]}" | sed -E 's/^([^:]+:[0-9]+):[^<"]*([<"][^>"]*).*/\1:\2/'; }

# Ours are named from the root of the repository, and point only downwards: training -> parallel -> core.
check_directions() {
  local file line included room allowed
  while IFS=: read -r file line included; do
    [[ $included == '"'* ]] || continue
    room=${file%%/*}
    case $room in
      core) allowed='"core/*' ;;
      parallel) allowed='"@(core|parallel)/*' ;;
      training) allowed='"@(core|parallel|training)/*' ;;
      *) allowed='"*/*' ;;
    esac
    # shellcheck disable=SC2053  # a pattern on purpose
    [[ $included == $allowed ]] || report "$file:$line: $room/ may not include $included\" (training -> parallel -> core, named from the root)"
  done < <(include_lines)
}

# A foreign library stays behind the one file that wraps it.
check_foreign_headers() {
  local rule headers home file line included
  for rule in \
    'yaml-cpp/*|training/yaml_reader.cpp' \
    'mpi.h|parallel/mpi_*.@(h|cpp)' \
    'nccl.h|parallel/nccl_*.@(h|cpp)' \
    '@(c10|ATen)/cuda/*|@(core/cuda/*|parallel/nccl_*|tests/gpu/*)' \
    'spdlog/*|training/run_log.cpp' \
    'CLI/*|training/command_line.cpp' \
    'nlohmann/*|@(training|tests)/*'; do
    headers=${rule%%|*} home=${rule#*|}
    while IFS=: read -r file line included; do
      # shellcheck disable=SC2053
      [[ ${included:1} != $headers || $file == $home ]] || report "$file:$line: ${included:1} may be included only by $home"
    done < <(include_lines)
  done
}

check_lengths() {
  local file lines
  while IFS= read -r file; do
    lines=$(wc -l <"$file")
    ((lines <= MAX_LINES)) || report "$file: $lines lines, the budget is $MAX_LINES"
  done < <(list_files '*.h' '*.cpp' '*.cu' '*.cuh' '*.sh' '*.py' '*.cmake' '*CMakeLists.txt')
}

check_machine_paths() {
  local hits
  hits=$(list_files | xargs -r -d '\n' grep -nIE '(^|[^A-Za-z0-9_./~$}-])/(home|root|Users|work|workspace)/[A-Za-z0-9_.]' -- | grep -v '^scripts/check_style.sh:' || true)
  [[ -z $hits ]] || report "paths of one machine:"$'\n'"$hits"
}

find_clang_format() {
  local candidate
  for candidate in "clang-format-$CLANG_FORMAT_MAJOR" clang-format; do
    if [[ $("$candidate" --version 2>/dev/null) =~ version\ $CLANG_FORMAT_MAJOR\. ]]; then
      echo "$candidate"
      return
    fi
  done
}

check_format() {
  local formatter
  formatter=$(find_clang_format)
  if [[ -z $formatter ]]; then
    echo "check_style: the format was NOT checked: no clang-format $CLANG_FORMAT_MAJOR here (package clang-format-$CLANG_FORMAT_MAJOR)" >&2
    return
  fi
  "$formatter" --dry-run -Werror --ferror-limit=1 -- "${CPP_FILES[@]}" || report "format: run $formatter -i on the files above"
}

shopt -s extglob
check_directions
check_foreign_headers
check_lengths
check_machine_paths
check_format
if ((findings)); then
  echo "check_style: $findings findings" >&2
  exit 1
fi
echo "check_style: ${#CPP_FILES[@]} C++ files follow the rules"
