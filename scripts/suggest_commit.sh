#!/usr/bin/env bash
# After a run, print how to keep it, so that `make undo` can return to it; print nothing where nothing has changed.
set -euo pipefail

if [[ -z $(git status --porcelain --untracked-files=no .) ]]; then
    exit 0
fi
echo
echo "Keep this run before the first experiment, so that the experiment can be undone:"
if ! git var GIT_COMMITTER_IDENT >/dev/null 2>&1; then
    echo "    git config user.name \"Your Name\" && git config user.email you@example.org"
fi
echo "    git commit -am \"My run\""
