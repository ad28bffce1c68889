#!/usr/bin/env bash
# Builds the four-domain corpus of the quickstart from Debian packages, with no download: DIR/{kjv,python,cpp,wordnet}.{train,validation}.txt.
# The same packages give the same bytes. Nothing is done where the checksums of an earlier call hold.
set -euo pipefail
export LC_ALL=C

usage() {
  cat <<'USAGE'
usage: scripts/prepare_corpus.sh [--out DIR] [--bytes N]
  --out DIR   folder to write (default: data/corpus beside this script's folder)
  --bytes N   training bytes of each domain (default: 1000000); a tenth of that comes on top as held-out text
USAGE
}

fail() { echo "prepare_corpus: $*" >&2; exit 2; }

readonly DOMAINS=(kjv python cpp wordnet)
out="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/data/corpus"
train_bytes=1000000
while (($#)); do
  case "$1" in
    --out) out="${2:?--out needs a folder}"; shift 2 ;;
    --bytes) train_bytes="${2:?--bytes needs a number}"; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown argument $1" ;;
  esac
done
[[ "$train_bytes" =~ ^[1-9][0-9]{3,11}$ ]] || fail "--bytes $train_bytes is not a number from 1000 on"

# Debian's own interpreter where there is one: others on PATH differ from machine to machine.
python=python3
[[ -x /usr/bin/python3 ]] && python=/usr/bin/python3

check_packages() {
  local missing=()
  command -v bible >/dev/null || missing+=(bible-kjv)
  [[ -r /usr/share/wordnet/data.noun ]] || missing+=(wordnet-base)
  command -v g++ >/dev/null && [[ -d "/usr/include/c++/$(g++ -dumpversion)" ]] || missing+=(g++)
  command -v "$python" >/dev/null || missing+=(python3)
  command -v xz >/dev/null || missing+=(xz-utils)
  if ((${#missing[@]})); then fail "not installed: ${missing[*]}; run: apt-get install ${missing[*]}"; fi
}

package_version() {
  local version
  version="$(dpkg-query --show --showformat='${Package} ${Version}' "$1" 2>/dev/null)" || version="$1 (not from a Debian package)"
  echo "$version"
}

# Lines in runs of $1, every eighth run first, then the next ones, so that any beginning of the output samples the whole input.
spread() {
  awk -v run="$1" '{ print int((NR - 1) / run) % 8 "\t" $0 }' | sort --stable --numeric-sort --key=1,1 | cut -f 2-
}

# Very large files are tables more than code.
list_sources() {
  find "$1" -type f -size -100k "${@:2}" | sort | spread 1
}

# Whole files that are UTF-8, one after the other.
concatenate_text() {
  local file
  while IFS= read -r file; do
    if iconv -f UTF-8 -t UTF-8 "$file" >/dev/null 2>&1; then cat "$file"; fi
  done
}

kjv_text() { bible 'gen1:1-rev22:21'; }

python_text() {
  local folder
  folder="$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
  list_sources "$folder" -name '*.py' -not -path '*/test*/*' -not -path '*/site-packages/*' -not -path '*/dist-packages/*' \
    -not -path '*/encodings/*' -not -path '*/pydoc_data/*' | concatenate_text
}

cpp_text() { list_sources "/usr/include/c++/$(g++ -dumpversion)" -not -name '*.py' | concatenate_text; }

# "lemma: definition" of each synset; the numeric columns and the licence at the head (lines that begin with a space) stay behind. Neighbours
# are related, so they stay together in runs of 50.
wordnet_text() {
  awk -F ' [|] ' '!/^ / { split($1, column, " "); gsub("_", " ", column[5]); sub(/ +$/, "", $2); print column[5] ": " $2 }' \
    /usr/share/wordnet/data.{adj,adv,noun,verb} | spread 50
}

# Every 11th chunk of about a hundredth of the training text is held out: both parts cover the whole text and share no line. Lines stay
# whole, and so do UTF-8 characters. Exits early, which the writer of the pipe sees as SIGPIPE.
split_text() {
  awk -v train="$1" -v validation="$2" -v wanted="$train_bytes" '
    BEGIN { chunk = int(wanted / 100); printf "" > train; printf "" > validation }
    offset >= chunk * 110 { exit }
    { print > (int(offset / chunk) % 11 == 5 ? validation : train); offset += length($0) + 1 }'
}

build_domain() {
  local domain="$1" train="$out/$1.train.txt.tmp" validation="$out/$1.validation.txt.tmp" num_bytes
  set +o pipefail
  "${domain}_text" | split_text "$train" "$validation"
  set -o pipefail
  num_bytes="$(cat "$train" "$validation" | wc -c)"
  ((num_bytes >= train_bytes * 11 / 10 - 1)) || fail "$domain has only $num_bytes bytes of text; use --bytes $((num_bytes * 10 / 11)) or less"
  mv "$train" "$out/$domain.train.txt"
  mv "$validation" "$out/$domain.validation.txt"
}

text_files() { for domain in "${DOMAINS[@]}"; do echo "$domain.train.txt"; echo "$domain.validation.txt"; done; }

is_up_to_date() {
  [[ -r "$out/SHA256SUMS" && -r "$out/SOURCES.md" ]] && grep -qx "Training bytes of each domain: $train_bytes" "$out/SOURCES.md" &&
    (cd "$out" && sha256sum --check --status SHA256SUMS 2>/dev/null)
}

write_sources() {
  local file
  cat <<SOURCES
# Sources of this corpus

Made by scripts/prepare_corpus.sh. Held out (validation): every 11th part of each text.
Training bytes of each domain: $train_bytes

| domain | package | licence |
|---|---|---|
| kjv | $(package_version bible-kjv-text) | King James Bible: public domain |
| python | $("$python" -V), standard library | Python Software Foundation License 2 |
| cpp | $(package_version "libstdc++-$(g++ -dumpversion)-dev") | GPL-3.0-or-later with GCC Runtime Library Exception 3.1 |
| wordnet | $(package_version wordnet-base) | WordNet 3.0 License (Princeton University) |

| file | bytes | sha256 |
|---|---|---|
SOURCES
  while read -r sum file; do echo "| $file | $(wc -c <"$out/$file") | $sum |"; done <"$out/SHA256SUMS"
}

# What general-purpose compressors need for the held-out text: the mark that a trained model has to beat.
print_baselines() {
  printf '%-10s %14s %16s %9s %9s   (bits per byte of the held-out text)\n' domain 'train bytes' 'held-out bytes' 'gzip -9' 'xz -9'
  for domain in "${DOMAINS[@]}"; do
    local held_out="$out/$domain.validation.txt"
    echo "$domain $(wc -c <"$out/$domain.train.txt") $(wc -c <"$held_out") $(gzip -9 -n <"$held_out" | wc -c) $(xz -9 <"$held_out" | wc -c)"
  done | awk '{ gzip = 8 * $4 / $3; xz = 8 * $5 / $3; printf "%-10s %14d %16d %9.3f %9.3f\n", $1, $2, $3, gzip, xz; gzip_sum += gzip; xz_sum += xz }
    END { printf "%-10s %14s %16s %9.3f %9.3f\n", "mean", "", "", gzip_sum / NR, xz_sum / NR }'
}

check_packages
if is_up_to_date; then
  echo "$out is complete: checksums hold."
else
  mkdir -p "$out"
  trap 'rm -f "$out"/*.tmp' EXIT
  for domain in "${DOMAINS[@]}"; do build_domain "$domain"; done
  (cd "$out" && text_files | xargs sha256sum >SHA256SUMS)
  write_sources >"$out/SOURCES.md"
  echo "$out is written; licences and checksums are in SOURCES.md."
fi
print_baselines
