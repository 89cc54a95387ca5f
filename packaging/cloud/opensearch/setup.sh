#!/usr/bin/env bash
# Puts everything of ours into an OpenSearch domain: index templates, retention, roles, alerts and dashboards.
#   OPENSEARCH_USER=… OPENSEARCH_PASSWORD=… setup.sh https://DOMAIN --indexer-role ARN --topic ARN --alert-role ARN
#
#   --indexer-role ARN            the IAM role that the Lambda hr-indexer signs with; it may write, and read back
#   --topic ARN                   the SNS topic that alerts go to
#   --alert-role ARN              the IAM role that OpenSearch publishes with
#   --retention-days N            how long readings stay; 400 if not given. As the live stack's ReadingsRetentionDays has it: up to 31
#                                 the indexer makes an index for each day, of more one for each month
#   --minutes-retention-days N    how long minutes stay; 1100 if not given
#   --nodes N                     of the domain: with more than one, each index is there twice
#   --shards N                    of each index of readings, from the next one on; 1 if not given. A shard holds
#                                 2,147,483,519 documents, which 800 sensors have in a month, and works well up to 50 GB
#   --no-retention, --no-roles, --no-alerts, --no-dashboards
#                                 leaves that out: for an OpenSearch that has it not. Without these, what an OpenSearch
#                                 has not is told, and the script ends with 3
#   --dry-run                     shows the calls and makes none
#   --help                        shows this
#
# What is there already is replaced, nothing is there twice, and what others made stays: run it again whenever you like.
# The user must be one who may do everything; name and password are no arguments, where other users would see them.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$here/../lib/common.sh"

REQUEST_S_MAX=60
LEFT_OUT=3 # The exit code if something is missing that was not left out on purpose.
DAYS_OF_A_MONTH=31
BY_DAY_DAYS_MAX=31 # As the indexer has it (indexer/src/index.rs).

endpoint='' indexer_role='' topic='' alert_role='' retention_days=400 minutes_retention_days=1100 nodes=1 shards=1
roles=yes alerts=yes dashboards=yes retention=yes
missing=()

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --indexer-role | --topic | --alert-role | --retention-days | --minutes-retention-days | --nodes | --shards)
                value_of "$@"
                local name=${1#--}
                printf -v "${name//-/_}" %s "$2"
                shift
                ;;
            --no-retention) retention= ;;
            --no-roles) roles= ;;
            --no-alerts) alerts= ;;
            --no-dashboards) dashboards= ;;
            --dry-run) DRY_RUN=yes ;;
            -h | --help)
                show_help
                exit 0
                ;;
            -*) usage "there is no option $1" ;;
            *)
                [ -z "$endpoint" ] || usage "one domain, not also \"$1\""
                endpoint=${1%/}
                ;;
        esac
        shift
    done
}

# What goes into JSON and sed is of letters that mean nothing there.
check_arguments() {
    [[ $endpoint =~ ^https?://[A-Za-z0-9.-]+(:[0-9]+)?$ ]] || usage "give the domain as https://HOST, not \"$endpoint\""
    local host=${endpoint#*://} role='^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$' name
    [[ $endpoint == https://* || ${host%:*} == 127.0.0.1 || ${host%:*} == localhost ]] ||
        usage "a password goes only over https, or to this machine itself: $endpoint"
    [ -z "$roles" ] || [[ $indexer_role =~ $role ]] || usage "--indexer-role takes a role's ARN, or say --no-roles: \"$indexer_role\""
    if [ -n "$alerts" ]; then
        [[ $topic =~ ^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$ ]] ||
            usage "--topic takes a topic's ARN, or say --no-alerts: \"$topic\""
        [[ $alert_role =~ $role ]] || usage "--alert-role takes a role's ARN, or say --no-alerts: \"$alert_role\""
    fi
    for name in retention_days minutes_retention_days nodes shards; do
        [[ ${!name} =~ ^[1-9][0-9]{0,4}$ ]] || usage "--${name//_/-} takes a number from 1: \"${!name}\""
    done
}

# Curl reads who asks from files that only we may read: a password, a session of Dashboards, or nobody.
write_curl_config() {
    local user=${OPENSEARCH_USER:-}:${OPENSEARCH_PASSWORD:-}
    [[ $user != *$'\n'* ]] || die "OPENSEARCH_USER and OPENSEARCH_PASSWORD are of one line each"
    user=${user//\\/\\\\}
    printf 'silent\nshow-error\nconnect-timeout = 10\nmax-time = %s\nproto = "=https,http"\n' "$REQUEST_S_MAX" >"$WORK/nobody"
    cp "$WORK/nobody" "$WORK/password"
    [ "$user" = : ] || printf 'user = "%s"\n' "${user//\"/\\\"}" >>"$WORK/password"
    cp "$WORK/nobody" "$WORK/session"
    printf 'cookie = "%s"\n' "$WORK/cookies" >>"$WORK/session"
}

# filled FILE: with this run's values; prints where it is.
filled() {
    local out=$WORK/${1//\//-} period=$((retention_days > BY_DAY_DAYS_MAX ? DAYS_OF_A_MONTH : 1))
    sed -e "s|@REPLICAS@|$((nodes > 1))|" -e "s|@SHARDS@|$shards|" -e "s|@TOPIC@|$topic|" -e "s|@ALERT_ROLE@|$alert_role|" -e "s|@INDEXER_ROLE@|$indexer_role|" \
        -e "s|@RETENTION_DAYS@|$retention_days|" -e "s|@RETENTION_DAYS_AND_A_PERIOD@|$((retention_days + period))|" \
        -e "s|@MINUTES_RETENTION_DAYS@|$minutes_retention_days|" \
        -e "s|@MINUTES_RETENTION_DAYS_AND_A_MONTH@|$((minutes_retention_days + DAYS_OF_A_MONTH))|" "$here/$1" >"$out"
    echo "$out"
}

caller=password

# ask METHOD PATH [CURL-ARGUMENT...]: as `caller`; STATUS and $WORK/answer are what came. In a rehearsal nothing is there yet.
ask() {
    local method=$1 path=$2
    shift 2
    if [ -n "$DRY_RUN" ]; then
        echo "    $method $endpoint/$path"
        echo '{}' >"$WORK/answer"
        STATUS=$([ "$method" = GET ] && echo 404 || echo 200)
        return
    fi
    # A call that makes something with a name of its own is not made again.
    [ "$method" = POST ] || set -- --retry 4 --retry-connrefused "$@"
    STATUS=$(curl --config "$WORK/$caller" --request "$method" "$@" --output "$WORK/answer" --write-out '%{http_code}' "$endpoint/$path") ||
        die "$endpoint does not answer: is this machine let in by the domain's policy?"
}

# body METHOD PATH FILE: the same with a JSON document.
body() {
    ask "$1" "$2" --header 'Content-Type: application/json' --data-binary "@$3"
}

# must WHAT: the last call went well.
must() {
    [[ $STATUS == 2* ]] || {
        head -c 2000 "$WORK/answer" >&2
        die "$1 was refused with $STATUS"
    }
}

# has WHAT OPTION: false if this OpenSearch has no such plugin, as the last call showed.
has() {
    grep -q 'no handler found for uri' "$WORK/answer" || return 0
    echo "    LEFT OUT: this OpenSearch has no $1"
    missing+=("$1 ($2)")
    return 1
}

# value PATH...: of the last answer.
value() {
    python3 -c '
import json, sys
found = json.load(open(sys.argv[1]))
for name in sys.argv[2:]:
    found = found[name]
print(found)' "$WORK/answer" "$@"
}

set_templates() {
    local name settings=$WORK/settings
    for name in hr-readings hr-minutes; do
        echo "index template $name"
        body PUT "_index_template/$name" "$(filled "templates/$name.json")"
        must "the index template $name"
    done
    echo "{\"index\": {\"number_of_replicas\": $((nodes > 1))}}" >"$settings"
    body PUT "hr-readings-*,hr-minutes-*/_settings?allow_no_indices=true" "$settings"
    must "the number of copies of each index"
}

# A policy goes to indices that are made after it by itself; to those that are there, by hand.
set_retention() {
    local name version change
    for name in hr-readings hr-minutes; do
        echo "retention of $name"
        version=
        ask GET "_plugins/_ism/policies/$name"
        has "index management" --no-retention || return 0
        if [ "$STATUS" != 404 ]; then
            must "the policy $name"
            version="?if_seq_no=$(value _seq_no)&if_primary_term=$(value _primary_term)"
        fi
        body PUT "_plugins/_ism/policies/$name$version" "$(filled "policies/$name.json")"
        must "the policy $name"
        ask GET "_cat/indices/$name-*?h=index"
        [ "$STATUS" = 404 ] || must "the list of indices"
        [[ $STATUS == 2* && -s $WORK/answer ]] || continue
        change=$WORK/change
        echo "{\"policy_id\": \"$name\"}" >"$change"
        body POST "_plugins/_ism/add/$name-*" "$change"
        must "the policy $name for indices without one"
        body POST "_plugins/_ism/change_policy/$name-*" "$change"
        must "the policy $name for indices with an older one"
    done
}

set_roles() {
    local name
    for name in hr-indexer hr-viewer; do
        echo "role $name"
        body PUT "_plugins/_security/api/roles/$name" "$(filled "roles/$name.json")"
        has "fine-grained access" --no-roles || return 0
        must "the role $name"
    done
    body PUT "_plugins/_security/api/rolesmapping/hr-indexer" "$(filled roles/hr-indexer-mapping.json)"
    must "the role hr-indexer for $indexer_role"
}

set_alerts() {
    local file name
    echo "channel hr-alerts"
    body PUT "_plugins/_notifications/configs/hr-alerts" "$(filled channel.json)"
    has notifications --no-alerts || return 0
    if [ "$STATUS" = 404 ]; then body POST "_plugins/_notifications/configs" "$(filled channel.json)"; fi
    must "the channel to $topic"
    for file in "$here"/monitors/*.json; do
        name=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["name"])' "$file")
        echo "monitor \"$name\""
        set_monitor "$file" "$name" || return 0
    done
}

# set_monitor FILE NAME: OpenSearch gives it an id of its own, so it is looked for by its name.
set_monitor() {
    local query=$WORK/query id
    python3 -c 'import json, sys; print(json.dumps({"query": {"term": {"monitor.name.keyword": sys.argv[1]}}}))' "$2" >"$query"
    body POST "_plugins/_alerting/monitors/_search" "$query"
    has alerting --no-alerts || return 1
    id=
    # Before the first monitor there is no index to search.
    if [ "$STATUS" != 404 ] && [ -z "$DRY_RUN" ]; then
        must "the search for the monitor"
        id=$(python3 -c '
import json, sys
print(next((hit["_id"] for hit in json.load(open(sys.argv[1]))["hits"]["hits"]), ""))' "$WORK/answer")
    fi
    if [ -n "$id" ]; then body PUT "_plugins/_alerting/monitors/$id" "$1"; else body POST "_plugins/_alerting/monitors" "$1"; fi
    must "the monitor \"$2\""
}

# Dashboards on Amazon's service answers 401 to a password and wants a session (OpenSearch-Dashboards issue 5146).
log_in() {
    local caller=nobody
    python3 -c 'import json, os; print(json.dumps({"username": os.getenv("OPENSEARCH_USER"), "password": os.getenv("OPENSEARCH_PASSWORD")}))' >"$WORK/login"
    ask POST _dashboards/auth/login --header 'Content-Type: application/json' --header 'osd-xsrf: true' \
        --data-binary "@$WORK/login" --cookie-jar "$WORK/cookies"
}

# Into the tenant that all share: without a name it would be the caller's own.
set_dashboards() {
    local objects=$WORK/dashboards.ndjson caller=password
    echo "dashboards"
    "$here/dashboard.py" >"$objects"
    ask GET _dashboards/api/status
    has Dashboards --no-dashboards || return 0
    log_in
    # A Dashboards without users has no such page.
    [ "$STATUS" = 404 ] || {
        must "the login to Dashboards"
        caller=session
    }
    ask POST "_dashboards/api/saved_objects/_import?overwrite=true" --header 'osd-xsrf: true' --header 'securitytenant: global' \
        --form "file=@$objects"
    has Dashboards --no-dashboards || return 0
    must "the import of the dashboards"
    # It says 200 also where it took nothing.
    [ -n "$DRY_RUN" ] || [ "$(value success)" = True ] || {
        head -c 2000 "$WORK/answer" >&2
        die "the import of the dashboards was refused"
    }
}

read_arguments "$@"
check_arguments
need curl "apt-get install curl"
need python3 "apt-get install python3"
make_work
write_curl_config
set_templates
[ -z "$roles" ] || set_roles # First: without them the indexer stands still.
[ -z "$retention" ] || set_retention
[ -z "$dashboards" ] || set_dashboards
[ -z "$alerts" ] || set_alerts
[ ${#missing[@]} -eq 0 ] || {
    printf -v list '%s, ' "${missing[@]}"
    echo "setup.sh: this is not there, as this OpenSearch has it not: ${list%, }" >&2
    exit "$LEFT_OUT"
}
[ -n "$DRY_RUN" ] || echo "all is there"
