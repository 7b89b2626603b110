#!/usr/bin/env bash
# Run a small grid, one experiment after the other:  scripts/experiments.sh train.lr 0.0005 0.001 0.002
# `tune` does not run. DVC keeps each experiment under its name; at the end the workspace is restored.
set -euo pipefail
parameter=${1:?which parameter of params.yaml? scripts/experiments.sh train.lr 0.0005 0.001 0.002}
shift
undo() { python "$(dirname "${BASH_SOURCE[0]}")/undo.py" "$@"; }

if [[ -n $(git status --porcelain --untracked-files=no .) ]]; then
    echo "Commit your changes first (git commit -am \"My run\"): the workspace returns to the last commit at the end." >&2
    exit 1
fi
undo --check
trap undo EXIT

for value in "$@"; do
    name=${parameter##*.}-${value//[^[:alnum:]._+-]/-} # the name of a git reference, which has no blanks
    dvc exp run --name "$name" --set-param "$parameter=$value"
done
undo
trap - EXIT

keep="validation_accuracy|accuracy|calibration_error|$parameter" # of some eighty columns
dvc exp show --no-pager --md --hide-workspace --drop '.*' --keep "^(Experiment|$keep)$"
echo "Compare two: dvc metrics diff NAME NAME, dvc plots diff NAME NAME. Keep one: dvc exp apply NAME."
