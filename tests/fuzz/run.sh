#!/usr/bin/env bash
# Feeds every target with inputs that libFuzzer makes up from the corpus. Closes with `N passed, M failed`.
#   tests/fuzz/run.sh                       so many inputs each, the same ones every time
#   tests/fuzz/run.sh --for SECONDS [TARGET...]   for so long each, other ones every time
#   tests/fuzz/run.sh --keep                puts what the runs above found worth keeping into the corpus, made small
# An input that breaks a target is left in target/evidence/fuzz/TARGET/; put into tests/fuzz/corpus/TARGET/ it is a test.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

RUNS=200000
# Longer inputs show nothing new: a notification has 20 bytes, a request or a line some hundred.
BYTES_MAX=600
SECONDS_MAX_PER_INPUT=10
FOUND=target/evidence/fuzz
ALL=(notification segment configuration recording wire control)

limit=(-runs="$RUNS" -seed=1)
keep=false
case ${1:-} in
    --for)
        limit=(-max_total_time="$2")
        shift 2
        ;;
    --keep)
        keep=true
        shift
        ;;
esac
[ $# -gt 0 ] || set -- "${ALL[@]}"

RUSTC_WRAPPER=$PWD/tests/fuzz/instrumented-rustc.sh \
    cargo build --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target
passed=0
failed=0
for target in "$@"; do
    corpus=tests/fuzz/corpus/$target
    found=$FOUND/$target
    # So many inputs are the same ones only if what earlier runs found is not among them.
    case ${limit[0]} in -runs=*) $keep || rm -rf "$found" ;; esac
    mkdir -p "$found"
    if $keep; then
        rm -rf "$corpus.before"
        mv "$corpus" "$corpus.before"
        mkdir "$corpus"
        FUZZ_TARGET=$target target/debug/fuzz -merge=1 -use_counters=0 -max_len=$BYTES_MAX -artifact_prefix="$found/" \
            "$corpus" "$corpus.before" "$found"
        rm -rf "$corpus.before"
        passed=$((passed + 1))
        continue
    fi
    if FUZZ_TARGET=$target target/debug/fuzz "${limit[@]}" -max_len=$BYTES_MAX -timeout=$SECONDS_MAX_PER_INPUT \
        -artifact_prefix="$found/" -print_final_stats=1 "$found" "$corpus" >"$found.log" 2>&1; then
        passed=$((passed + 1))
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log") inputs, nothing broke"
    else
        failed=$((failed + 1))
        tail -n 30 "$found.log"
        echo "FAILED: $target; the log is $found.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
