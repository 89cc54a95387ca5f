#!/usr/bin/env bash
# Runs the tests; installs what they need. Each form closes with `N passed, M failed`.
#   packaging/test.sh              the tests
#   packaging/test.sh simulation [SEEDS]
#                                  the simulation alone, through a million histories or so many; the tests have
#                                  10,000 of them
#   packaging/test.sh deb          the package: built for amd64 and arm64, checked against Debian's rules
#   packaging/test.sh vm [ARG...]  the package on real BlueZ, kernel and systemd, in virtual machines (as root);
#                                  arguments go to tests/vm/run.py: --list, --soak 100, 2.1
#   packaging/test.sh evidence [ARG...]  power cuts and fuzzing, some hundreds and some thousands; as root.
#                                  Arguments go to tests/evidence/power/run.py alone: --cuts 10000
#   packaging/test.sh cloud        the cloud side: templates, scripts, indexer, queries, dashboard
#   packaging/test.sh all          all of these but the long simulation, and the mock's own test and the README's demo
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. packaging/prepare.sh

passed=0
failed=0
log=$(mktemp)
# What failed, to be said again at the end.
failures=$(mktemp)
trap 'rm -f "$log" "$log.beside" "$failures"' EXIT

# section NAME: a heading, with the minutes and seconds since the beginning.
section() {
    printf '== %s (at %d:%02d)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60))
}

# check NAME COMMAND...: one test of its own.
check() {
    section "$1"
    if "${@:2}"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1" | tee -a "$failures"
    fi
}

# count PATTERN: adds the runner's own counts, in the log's lines that match; what pytest calls an error is a test that
# could not begin.
count() {
    read -r more_passed more_failed < <(awk -v line="$1" '
        $0 ~ line { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i - 1); if ($i ~ /^(failed|error)/) f += $(i - 1) } }
        END { print p + 0, f + 0 }' "$log")
    passed=$((passed + more_passed))
    failed=$((failed + more_failed))
    # In the runners' own words: cargo's, pytest's, tests/vm/run.py's.
    grep -E '^(test .* FAILED$|FAIL(ED)?:? |ERROR )' "$log" >>"$failures" || true
}

# A runner that failed before it could count its failures has failed once.
count_run() {
    local before=$failed status=$1
    count "$2"
    if [ "$status" -ne 0 ] && [ "$failed" -eq "$before" ]; then failed=$((failed + 1)); fi
}

cargo_tests() {
    section "tests"
    local status=0
    # Most of them wait most of the time.
    local RUST_TEST_THREADS
    export RUST_TEST_THREADS=$((3 * $(nproc)))
    # Apart, so that the indexer is tried with the pure library alone.
    { cargo test --locked --no-fail-fast && cargo test --locked --package hr-indexer; } 2>&1 | tee "$log" || status=$?
    count_run "$status" '^test result:'
}

simulation() {
    local status=0
    SIMULATION_SEEDS=$1 cargo test --locked --test simulation -- --nocapture 2>&1 | tee "$log" || status=$?
    count_run "$status" '^test result:'
}

# With what the tests built: its own build would compile half the crates once more, with fewer features.
demo() {
    HR_GATEWAYD_IS_BUILT=1 packaging/demo.sh --for 5s | tail -n 3
}

# Installed in a bare Debian, removed and purged: what is left over is a failure, but for the folders that systemd,
# which comes along, makes for itself.
installs_and_goes() {
    as_root piuparts --distribution bookworm --no-upgrade-test \
        --ignore-regex '/(root/\.ssh|var/(cache|lib|log)/private|var/lib/systemd)(/.*)?' "$1" >"$log" 2>&1 || {
        grep -A 20 'ERROR:' "$log" | head -n 30
        return 1
    }
    tail -n 1 "$log"
}

package_tests() {
    prepare_package_tests
    local arch package
    for arch in amd64 arm64; do
        section "the package for $arch"
        package=$(packaging/build-deb.sh $arch | tail -n 1)
        check "lintian $package" lintian --fail-on error,warning "$package"
        check "below 8 MB installed" below_8_mb "$package"
    done
    check "the manual's pages" mandoc -T lint -W error packaging/debian/hr-gatewayd.8 packaging/debian/hr-gatewayd.toml.5
    check "the service's sandbox" systemd-analyze security --offline=yes --threshold=15 --no-pager systemd/hr-gatewayd.service
    check "the same bytes when built again" builds_the_same amd64
    check "piuparts" installs_and_goes "$(packaging/build-deb.sh amd64 | tail -n 1)"
}

# builds_the_same ARCH: the package, not the binary, which takes minutes.
builds_the_same() {
    local package before
    package=$(echo target/debian/hr-gatewayd_*_"$1".deb)
    before=$(sha256sum "$package")
    packaging/build-deb.sh "$1" >/dev/null
    echo "$before" | sha256sum --check
}

below_8_mb() {
    local kilobytes
    kilobytes=$(dpkg-deb --field "$1" Installed-Size)
    echo "$kilobytes KiB"
    [ $((kilobytes * 1024)) -lt 8000000 ]
}

# machines ARGUMENT...: tests/vm/run.py in a network of its own, where its ports are free and nothing else answers.
machines() {
    local arch=amd64
    case " $* " in *" arm64 "*) arch=arm64 ;; esac
    as_root tests/vm/build-image.sh "$arch"
    as_root unshare --net sh -c 'ip link set lo up && exec target/vm-venv/bin/python -B tests/vm/run.py "$@"' run "$@" 2>&1
}

# run_machines ARGUMENT...: counted.
run_machines() {
    local status=0
    machines "$@" | tee "$log" || status=$?
    count_run "$status" '^[0-9]+ passed, [0-9]+ failed'
}

# beside COMMAND...: in the background, until join_beside counts it: a machine mostly waits.
beside() {
    "$@" >"$log.beside" 2>&1 &
    beside_pid=$!
}

# join_beside PATTERN
join_beside() {
    local status=0
    wait "$beside_pid" || status=$?
    mv "$log.beside" "$log"
    cat "$log"
    count_run "$status" "$1"
}

# All on amd64, in two runs side by side.
run_all_machines() {
    section "machines, amd64"
    as_root tests/vm/build-image.sh amd64
    beside machines 6 7 8 9
    run_machines 1 2 3 4 5
    join_beside '^[0-9]+ passed, [0-9]+ failed'
}

# Power cuts without a machine, and made-up inputs; with arguments power cuts alone.
evidence_tests() {
    prepare_evidence
    # Debug builds: they put in the faults that must be found.
    cargo build --locked --bin hr-gatewayd --example store
    mkdir -p target/evidence
    check "the judge of the power cuts sees each broken rule" python3 -B tests/evidence/power/self_test.py
    section "power cuts"
    local status=0
    as_root python3 -B tests/evidence/power/run.py "$@" 2>&1 | tee "$log" || status=$?
    count_run "$status" '^[0-9]+ passed, [0-9]+ failed'
    [ $# -eq 0 ] || return 0
    section "fuzzing"
    status=0
    tests/fuzz/run.sh 2>&1 | tee "$log" || status=$?
    count_run "$status" '^[0-9]+ passed, [0-9]+ failed'
}

cloud_tests() {
    section "the cloud side"
    local status=0
    tests/cloud/run.sh 2>&1 | tee "$log" || status=$?
    count_run "$status" '^[0-9]+ (passed|failed|error)'
}

# What the machines install, and the debug build for the scenarios that put faults in: with the features that the
# tests ask for, so that what they compiled is taken.
build_for_machines() {
    prepare_machines
    cargo build --locked --bin hr-gatewayd --example store
    packaging/build-deb.sh amd64
}

machine_tests() {
    build_for_machines
    if [ $# -gt 0 ]; then
        run_machines "$@"
        return
    fi
    packaging/build-deb.sh arm64
    run_all_machines
    section "machines, arm64: an emulated Cortex-A53"
    run_machines --arch arm64
}

# The emulated ones beside the cloud side's tests.
machine_and_cloud_tests() {
    build_for_machines
    packaging/build-deb.sh arm64
    run_all_machines
    beside machines --arch arm64
    cloud_tests
    section "machines, arm64: an emulated Cortex-A53"
    join_beside '^[0-9]+ passed, [0-9]+ failed'
}

tier=${1:-fast}
[ $# -eq 0 ] || shift
prepare_build
case $tier in
    fast)
        prepare_tests
        cargo_tests
        ;;
    simulation)
        prepare_tests
        simulation "${1:-1000000}"
        ;;
    deb) package_tests ;;
    vm) machine_tests "$@" ;;
    evidence) evidence_tests "$@" ;;
    cloud) cloud_tests ;;
    all)
        prepare_tests
        check "the pretend BlueZ checks itself" target/test-venv/bin/python -B tests/bluez/self_test.py
        cargo_tests
        check "the README's demo" demo
        evidence_tests
        package_tests
        machine_and_cloud_tests
        ;;
    *)
        sed -n 's/^#   //p' "$0" >&2
        exit 2
        ;;
esac
cat "$failures"
section "the end"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
