#!/usr/bin/env bash
# A small grid, one experiment after the other:  scripts/experiments.sh train.lr 0.0005 0.001 0.002
# `tune` is left alone. Each experiment stays in DVC under its name; the workspace ends as it was.
set -euo pipefail
parameter=${1:?which parameter of params.yaml? scripts/experiments.sh train.lr 0.0005 0.001 0.002}
shift

if [[ -n $(git status --porcelain --untracked-files=no) ]]; then
    echo "Commit or stash your changes first: the workspace is put back to the last commit at the end." >&2
    exit 1
fi
back() { git checkout --quiet HEAD -- . && dvc checkout --quiet; }
trap back EXIT

for value in "$@"; do
    dvc exp run --name "${parameter##*.}-$value" --set-param "$parameter=$value"
done
back
trap - EXIT

columns="^(?!(Experiment|accuracy|calibration_error|as_photographs.accuracy|$parameter)$)"  # of some sixty
dvc exp show --no-pager --md --hide-workspace --drop "$columns"
echo "Compare two: dvc metrics diff NAME NAME, dvc plots diff NAME NAME. Keep one: dvc exp apply NAME."
