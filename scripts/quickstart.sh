#!/usr/bin/env bash
# From a fresh checkout to a trained, evaluated, exported and talking Mixture-of-Experts model in one command. Run it again to go on where it
# was stopped; a finished run is not trained again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CONFIG=configs/quickstart.yaml
readonly RUN=runs/quickstart
readonly CORPUS=data/corpus
readonly RANKS=2
# One micro-batch a rank; the answer does not depend on it.
readonly MICRO_BATCH=training.micro_batch_size=4
readonly DOMAINS=(kjv python cpp wordnet)
readonly BINARY=${SWITCHYARD:-build/release/switchyard}

usage() {
  cat <<'TEXT'
usage: scripts/quickstart.sh [--minutes M]

  --minutes M   training time to aim at (default: $QUICKSTART_MINUTES, else 5)

The number of steps follows from a speed measurement of 10 seconds. It is chosen once: later calls keep that of runs/quickstart.
TEXT
}

parse_arguments() {
  minutes=${QUICKSTART_MINUTES:-5}
  while (($#)); do
    case $1 in
      --minutes) minutes=${2:-} && shift ;;
      -h | --help) usage && exit 0 ;;
      *) usage >&2 && exit 2 ;;
    esac
    shift || { usage >&2 && exit 2; }
  done
  if ! [[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]]; then
    echo "quickstart: --minutes $minutes is not a number of minutes" >&2
    exit 2
  fi
}

# stage NAME COMMAND...: with a headline, and its time for the summary.
stage() {
  current_stage=$1
  local start=$SECONDS
  shift
  printf '\n=== %s\n' "$current_stage"
  "$@"
  times+=("$(printf '  %-34s %5d s' "$current_stage" $((SECONDS - start)))")
}

on_exit() {
  local code=$?
  [[ -z $trial ]] || rm -rf "$trial"
  if ((code == 3)); then
    echo "quickstart: stopped with a checkpoint; run the same command again to go on" >&2
  elif ((code)); then
    echo "quickstart: stage '$current_stage' failed with exit code $code" >&2
  fi
}

choose_steps() {
  if [[ -f $RUN/config.yaml ]]; then
    steps=$(python3 scripts/quickstart_figures.py steps-of "$RUN")
    echo "$RUN was begun with $steps steps, so it keeps them (remove the folder to start afresh)"
    return
  fi
  trial=$(mktemp -d)
  if ! scripts/train.sh "$CONFIG" -n "$RANKS" --run "$trial/speed" "$MICRO_BATCH" training.steps=1000000 training.max_minutes=0.17 \
    evaluation.every=0 evaluation.max_sequences=1 checkpoint.every=0 checkpoint.at_end=false >"$trial/log" 2>&1; then
    tail -n 20 "$trial/log" >&2
    return 1
  fi
  steps=$(python3 scripts/quickstart_figures.py steps-for "$trial/speed" "$minutes")
  echo "$steps steps take about $minutes minutes here"
}

train() {
  echo "The same run again, without measuring: scripts/train.sh $CONFIG -n $RANKS --run $RUN $MICRO_BATCH training.steps=$steps"
  scripts/train.sh "$CONFIG" -n "$RANKS" --run "$RUN" "$MICRO_BATCH" "training.steps=$steps"
}

evaluate() {
  "$BINARY" eval "$RUN" evaluation.max_sequences=0 --json >"$RUN/evaluation.json"
  echo "Bits per byte of the whole held-out text; smaller is better:"
  local domain files=()
  for domain in "${DOMAINS[@]}"; do files+=("$domain=$CORPUS/$domain.validation.txt"); done
  python3 scripts/quickstart_figures.py table "$RUN/evaluation.json" "${files[@]}"
}

export_model() {
  rm -rf "$RUN/huggingface"  # of an earlier call
  "$BINARY" export "$RUN" --to "$RUN/huggingface"
}

generate_samples() {
  local prompt
  for prompt in "And the LORD said unto " "def __init__(self, " "template<typename " "a person who "; do
    printf -- '--- %s\n' "$prompt"
    "$BINARY" generate "$RUN" --prompt "$prompt" --max-tokens 200 --temperature 0.7 --seed 1
    echo
  done
}

print_summary() {
  printf '\n=== Done in %d s\n' "$SECONDS"
  printf '%s\n' "${times[@]}"
  cat <<TEXT

Where everything lies
  $RUN/config.yaml         the configuration with every default
  $RUN/metrics.jsonl       one line a step; $RUN/tb for TensorBoard
  $RUN/evaluation.json     loss, perplexity and bits per byte by domain
  $RUN/checkpoints         load on any number of ranks
  $RUN/huggingface         for transformers
  $CORPUS/SOURCES.md         the texts and their licences

What to try next
  # curves, load of the experts, experts by domain
  scripts/setup.sh --tools && scripts/plot.py $RUN
  # the same logits in transformers (downloads 3 GB)
  scripts/setup.sh --verify && scripts/verify_export.py $RUN/huggingface
  # more text
  $BINARY generate $RUN --prompt "In the beginning" --max-tokens 300 --temperature 0.8 --seed 2
  # one expert a token instead of two
  scripts/train.sh $CONFIG -n 2 --run runs/top1 training.steps=$steps model.moe.top_k=1 model.moe.renormalize=false
  # the same job on one rank: the same losses
  scripts/train.sh $CONFIG -n 1 --run runs/one_rank training.steps=$steps parallel.expert=1
TEXT
}

main() {
  parse_arguments "$@"
  times=() trial="" current_stage=""
  trap on_exit EXIT
  stage "set-up" scripts/setup.sh
  stage "build" scripts/build.sh release switchyard
  stage "corpus" scripts/prepare_corpus.sh
  stage "number of steps" choose_steps
  stage "training on $RANKS ranks, $steps steps" train
  stage "evaluation by domain" evaluate
  stage "export to the Hugging Face layout" export_model
  stage "samples" generate_samples
  print_summary
}

main "$@"
