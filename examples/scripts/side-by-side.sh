#!/bin/sh
# Runs three commands side by side, waits for all of them and shows the logs of the commands that
# failed. Exits with the first exit code that is not 0.
set -u

fmt=$(claudine run --name fmt -- cargo fmt --check)
lint=$(claudine run --name lint -- cargo clippy --quiet)
tests=$(claudine run --name tests --timeout 30m -- cargo test --quiet)

claudine wait "$fmt" "$lint" "$tests"
code=$?
claudine list
for id in "$fmt" "$lint" "$tests"; do
    claudine wait "$id" || claudine logs "$id" --tail 40
done
exit $code
