#!/bin/sh
# Matrix: a program writes the graph, one line of JSON per task. Each combination is a task, and one
# more task waits for all of them.
#
#   ./matrix.sh | claudine submit -
#
# Ends: test-stable-debug succeeded, test-stable-release succeeded, test-beta-debug succeeded, test-beta-release succeeded, matrix-passed succeeded

all=
for toolchain in stable beta; do
    for profile in debug release; do
        name="test-$toolchain-$profile"
        printf '{"name": "%s", "script": "echo %s %s > result-%s"}\n' "$name" "$toolchain" "$profile" "$name"
        all="$all${all:+, }\"$name\""
    done
done
printf '{"name": "matrix-passed", "script": "cat result-*", "dependencies": [%s]}\n' "$all"
