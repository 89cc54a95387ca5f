#!/usr/bin/env bash
# Runs the tests; installs what they need.
#   packaging/test.sh       the tests
#   packaging/test.sh all   and the slow tiers: the mock's own test, the README's demo, the benches built
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. packaging/prepare.sh

tier=${1:-fast}
case $tier in
    fast | all) ;;
    *)
        sed -n 's/^#   //p' "$0" >&2
        exit 2
        ;;
esac

prepare_build
prepare_tests
log=$(mktemp)
trap 'rm -f "$log"' EXIT

if [ "$tier" = all ]; then
    echo "== the pretend BlueZ checks itself"
    target/test-venv/bin/python -B tests/bluez/self_test.py
    echo "== the pure library builds alone, as the indexer uses it"
    cargo build --locked --lib --no-default-features
    echo "== the README's demo"
    packaging/demo.sh --for 5s | tail -n 3
    echo "== the benches build"
    cargo bench --locked --no-run
fi

echo "== tests"
failed=0
cargo test --locked --no-fail-fast 2>&1 | tee "$log" || failed=1
awk '/^test result:/ { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }' "$log"
exit $failed
