#!/bin/sh
# Has an agent review the last commit, and prints its answer. `--allowed-tools` lists the tools that
# the agent may use without approval, since nobody is there to approve.
set -eu

id=$(git show HEAD | cat "$(dirname "$0")/review.md" - |
    claudine delegate --name review --allowed-tools 'Read,Grep,Glob' --max-turns 20 --timeout 15m -)
claudine wait "$id" >&2
claudine status "$id" --json | python3 -c 'import json, sys; task = json.load(sys.stdin); print(task["output"]); print(task["cost_usd"], "USD", file=sys.stderr)'
