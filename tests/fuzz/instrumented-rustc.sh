#!/usr/bin/env bash
# Stands before rustc (RUSTC_WRAPPER): the gateway's own crate is compiled so that libFuzzer sees which ways an input
# takes; the hundreds beneath it are as they always are, and need not be compiled again. On a stable compiler.
set -euo pipefail
case " $* " in
    *" --crate-name hr_gateway "*)
        exec "$@" -C codegen-units=1 -C passes=sancov-module \
            -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
            -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares
        ;;
    *) exec "$@" ;;
esac
