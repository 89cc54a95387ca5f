#!/usr/bin/env bash
# The cloud side's tests; installs what they need. Names the slowest; the last line is pytest's count. Arguments go to pytest.
#   tests/cloud/run.sh                 all of them
#   tests/cloud/run.sh -k template     the template without the lake
#   tests/cloud/run.sh --measure       the table of packaging/cloud/README.md
#   tests/cloud/run.sh --measure-events  that of the app events
#   tests/cloud/run.sh --measure-index   bytes a reading and a minute in the index
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=packaging/prepare.sh
. packaging/prepare.sh

# The jars of a real Trino, once: about 330 MB.
trino_jars() {
    cmp -s tests/cloud/pom.xml target/cloud-trino/pom.xml && return
    rm -rf target/cloud-trino
    mvn --batch-mode --quiet --file tests/cloud/pom.xml dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$PWD/target/cloud-trino"
    cp tests/cloud/pom.xml target/cloud-trino/pom.xml
}

# A real OpenSearch, once: about 110 MB. The modules' jars come without the two files that a server looks for beside them.
opensearch() {
    local from=tests/cloud/opensearch to=target/cloud-opensearch module
    cmp -s $from/pom.xml $to/pom.xml && return
    rm -rf $to
    mvn --batch-mode --quiet --file $from/pom.xml process-resources
    for module in lang-painless reindex; do
        cp $from/$module/plugin-* $to/opensearch-*/modules/$module
    done
    cp $from/pom.xml $to/pom.xml
}

# What draws the dashboard's panels, once: about 50 MB.
vega() {
    cmp -s tests/cloud/vega/package-lock.json target/cloud-vega/package-lock.json && return
    command -v npm >/dev/null || install_packages nodejs npm
    rm -rf target/cloud-vega
    mkdir -p target/cloud-vega
    cp tests/cloud/vega/package.json tests/cloud/vega/package-lock.json target/cloud-vega
    npm --prefix target/cloud-vega ci --no-audit --no-fund --loglevel error
}

# A real Flink, once: about 190 MB of jars; and the application beside its stand-in for the connector, compiled on them.
flink() {
    local from=packaging/cloud/streaming tests=tests/cloud/flink to=target/cloud-flink
    if ! cmp -s $tests/pom.xml $to/pom.xml; then
        rm -rf $to
        mvn --batch-mode --quiet --file $tests/pom.xml dependency:copy-dependencies \
            -DincludeScope=runtime -DoutputDirectory="$PWD/$to/jars"
        cp $tests/pom.xml $to/pom.xml
    fi
    rm -rf $to/classes
    mkdir -p $to/classes/META-INF/services
    javac -cp "$to/jars/*" -d $to/classes $from/src/hr/streaming/*.java $tests/*.java
    cp $from/windows.sql $to/classes
    cat {$from/src,$tests}/META-INF/services/org.apache.flink.table.factories.Factory \
        >$to/classes/META-INF/services/org.apache.flink.table.factories.Factory
}

# The consumer, and the Kinesis Client Library that it is made of: about 75 MB of jars.
consumer() {
    local from=packaging/cloud/consumer to=target/consumer
    cmp -s <(cat $from/pom.xml $from/src/consumer/*.java) $to/built-from && return
    mvn --batch-mode --quiet --file $from/pom.xml package
    cat $from/pom.xml $from/src/consumer/*.java >$to/built-from
}

# OpenTofu and the provider that it asks, built once in about 4 minutes, and what that one's schema is read from. Debian 12's
# own Go is too old; one of 1.21 fetches the one that go.mod names.
terraform_tools() {
    local from=tests/cloud/terraform to=target/cloud-terraform package=@cdktn/provider-aws@25.7.0
    if ! go version 2>/dev/null | grep -qE 'go1\.(2[1-9]|[3-9][0-9])'; then
        echo "NOT TESTED: the Terraform module, as there is no Go of 1.21 or newer to build OpenTofu with" >&2
        untested+=(--ignore=tests/cloud/test_terraform.py)
        return
    fi
    cmp -s <(cat $from/go.mod $from/main.go) $to/built-from && return
    command -v npm >/dev/null || install_packages nodejs npm
    rm -rf $to
    mkdir -p $to
    go build -C $from -trimpath -ldflags='-s -w' -o "$PWD/$to/tofu" github.com/opentofu/opentofu/cmd/tofu
    go build -C $from -trimpath -ldflags='-s -w' -o "$PWD/$to/terraform-provider-aws" .
    npm pack $package --pack-destination $to --silent >/dev/null
    cat $from/go.mod $from/main.go >$to/built-from
}

prepare_build
install_packages binutils curl maven mosquitto openssl python3 python3-venv qemu-user-static shellcheck
command -v javac >/dev/null || install_packages default-jdk-headless
make_venv target/cloud-venv tests/cloud/requirements.txt
trino_jars
opensearch
vega
flink
consumer
untested=()
terraform_tools
case ${1:-} in
    --measure) exec target/cloud-venv/bin/python -B tests/cloud/measure.py ;;
    --measure-events) exec target/cloud-venv/bin/python -B tests/cloud/measure_events.py ;;
    --measure-index) exec target/cloud-venv/bin/python -B tests/cloud/measure_index.py ;;
    # Two at a time: each file's tests stay together, as they share what they started.
    *) exec target/cloud-venv/bin/python -B -m pytest -q -p no:cacheprovider -n 2 --dist loadfile --durations 20 --durations-min 10 "${untested[@]}" tests/cloud "$@" ;;
esac
