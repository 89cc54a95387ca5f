#!/usr/bin/env bash
# Makes the cloud side, or brings it up to date: the lake, the curated table, and the live dashboard.
#
#   packaging/cloud/bin/deploy.sh --viewer 203.0.113.7/32      everything
#   packaging/cloud/bin/deploy.sh --no-live                    without OpenSearch, which costs most
#   packaging/cloud/bin/deploy.sh --dry-run --no-live          shows what would change, and changes nothing
#
#   --viewer CIDR           from where people may log in to the dashboard, and this script set it up;
#                           "none" closes it again
#   --no-live, --no-curated  leave that stack as it is, or out
#   --windows flink         also windows and alerts on streams of their own, by Managed Service for Apache Flink; "lambda",
#                           the default, leaves it at the live dashboard's minutes; "none" is --no-live
#   --streaming-jar FILE    the Flink application, built before; by default Maven builds packaging/cloud/streaming
#   --sensors N             stream, domain and budget as large as estimate.sh --sensors N says; --hours H and --gateways M as
#                           there. A parameter that is named wins
#   --ca DIR                gateways identify themselves by certificates of this CA (ca.sh makes one)
#   --parameter KEY=VALUE   a parameter of a template; @FILE takes the value from a file. May be repeated
#   --endpoint URL          use this OpenSearch domain instead of making one; wants ExistingDomainArn as a
#                           parameter, and OPENSEARCH_USER and OPENSEARCH_PASSWORD in the environment
#   --lambda-zip FILE       the indexer, built before; by default packaging/build-lambda.sh builds it
#   --allow-replacement     also if a stream, bucket, key or domain would be replaced and its data left behind
#   --dry-run               make the change sets, show them, delete them
#   --stack NAME            default hr-gatewayd; the others are NAME-curated, NAME-live and NAME-streaming
#   --region, --profile     as the AWS CLI takes them
#
# Safe to run again: what is as it should be stays, and a parameter that is not named keeps its value. If an earlier
# stack of this name was destroyed, the stream, bucket and key it left are used again.
# Needs AWS CLI 1.29 or 2.13, python3, curl, and the rights of an administrator.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"
# shellcheck source=packaging/cloud/lib/cloudformation.sh
. "$cloud/lib/cloudformation.sh"
# shellcheck source=packaging/cloud/lib/retained.sh
. "$cloud/lib/retained.sh"
# shellcheck source=packaging/cloud/lib/certificates.sh
. "$cloud/lib/certificates.sh"
# shellcheck source=packaging/cloud/lib/gateway_users.sh
. "$cloud/lib/gateway_users.sh"

# What the other stacks take from the lake, not from the person: parameter and output.
declare -A WIRED=(
    [Bucket]=Bucket [Prefix]=Prefix [KeyArn]=KeyArn [StreamArn]=StreamArn [StreamKeyArn]=StreamKeyArn [TopicArn]=Topic [FirstDay]=FirstDay
    [DatabaseName]=Database [TableName]=Table
)

APPLICATION_SECONDS_MAX=600

ALLOW_REPLACEMENT=
live=yes curated=yes streaming='' zip='' jar='' viewer='' ca='' given=() load=()
while [ $# -gt 0 ]; do
    if common_option "$@"; then
        shift "$TAKEN"
        continue
    fi
    case $1 in
        --no-live) live= ;;
        --no-curated) curated= ;;
        --allow-replacement) ALLOW_REPLACEMENT=yes ;;
        --viewer | --ca | --parameter | --endpoint | --lambda-zip | --windows | --streaming-jar | --sensors | --hours | --gateways)
            value_of "$@"
            case $1 in
                --sensors | --hours | --gateways) load+=("$1" "$2") ;;
                --viewer) viewer=$2 ;;
                --ca)
                    ca=$2
                    given+=(GatewayIdentity=roles-anywhere "CaCertificate=@$2/ca.pem")
                    ;;
                --endpoint) given+=("ExistingEndpoint=$2") ;;
                --lambda-zip) zip=$2 ;;
                --streaming-jar) jar=$2 ;;
                --windows)
                    case $2 in
                        lambda) ;;
                        none) live='' ;;
                        flink) streaming=yes ;;
                        *) usage "--windows takes lambda, flink or none, not \"$2\"" ;;
                    esac
                    ;;
                --parameter)
                    [[ $2 =~ ^[A-Za-z0-9]+= ]] || usage "--parameter takes KEY=VALUE, not \"$2\""
                    given+=("$2")
                    ;;
            esac
            shift
            ;;
        *) usage "unknown option \"$1\"" ;;
    esac
    shift
done

[ -z "$jar" ] || [ -n "$streaming" ] || usage "--streaming-jar goes with --windows flink"
parts=(lake curated live streaming)

# own_names PART: the parameters of the part that a person may set.
own_names() {
    local name
    while read -r name _; do
        [ "$1" = lake ] || [ -z "${WIRED[$name]:-}" ] || continue
        [ "$name" = CodeKey ] || echo "$name"
    done < <(declared "$1")
}

# values PART: of what was given, the KEY=VALUE that the part takes, each ended by a zero byte.
values() {
    local pair names
    names=$(own_names "$1")
    for pair in "${given[@]}"; do
        if grep -qxF "${pair%%=*}" <<<"$names"; then printf '%s\0' "$pair"; fi
    done
}

is_there() {
    local status
    status=$(stack_status "$1") || exit 1
    [ "$status" != NONE ]
}

# size_parts: what follows from --sensors and was not named. What is there and left as it is costs too, and how long the
# index keeps things stays as it was said.
size_parts() {
    [ ${#load[@]} -gt 0 ] || return 0
    [[ " ${load[*]} " == *" --sensors "* ]] || usage "--hours and --gateways go with --sensors"
    local name pair sized words=(--parameters)
    [ -z "$streaming" ] || words+=(--windows flink)
    if [ -n "$live" ] || is_there "$STACK-live"; then words+=(--live); fi
    if [ -z "$curated" ] && ! is_there "$STACK-curated"; then words+=(--no-curated); fi
    if load_stack "$STACK-live"; then
        for name in ReadingsRetentionDays MinutesRetentionDays; do
            [ -z "${PARAMETER[$name]:-}" ] || words+=(--parameter "$name=${PARAMETER[$name]}")
        done
    fi
    for pair in "${given[@]}"; do words+=(--parameter "$pair"); done
    lines_of sized "$cloud/lib/estimate.py" "${load[@]}" "${words[@]}"
    echo "for ${load[*]}: ${sized[*]} (a stream or domain of before, or of yours, stays as it is)"
    given+=("${sized[@]}")
}

# A misspelt name stops everything before anything is touched.
check_names() {
    local pair part known
    known=$(for part in "${parts[@]}"; do own_names "$part"; done | sort -u)
    for pair in "${given[@]}"; do
        grep -qxF "${pair%%=*}" <<<"$known" ||
            usage "no template has a parameter \"${pair%%=*}\". There are: $(tr '\n' ' ' <<<"$known")"
    done
}

# @FILE becomes the file's text.
read_files() {
    local place file
    for place in "${!given[@]}"; do
        [[ ${given[place]} == *=@* ]] || continue
        file=${given[place]#*=@}
        [ -r "$file" ] || die "cannot read $file for ${given[place]%%=*}"
        given[place]="${given[place]%%=*}=$(cat "$file")"
    done
}

# What is older than the first day lies under it. Were that day raised, copies of what lies under its own day would come under
# another one, and be in hr_readings twice.
check_first_day() {
    local pair
    for pair in "${given[@]}"; do
        if [[ $pair == FirstDay=* ]] && load_stack "$STACK" && [[ ${pair#*=} > ${PARAMETER[FirstDay]:-9999} ]]; then
            usage "FirstDay is ${PARAMETER[FirstDay]} here, and may be made earlier, not later"
        fi
    done
}

# The group of users goes with GatewayIdentity=user, and only when nobody is in it.
check_identity() {
    local pair users
    for pair in "${given[@]}"; do
        if [[ $pair == GatewayIdentity=* && $pair != *=user ]]; then
            lines_of users gateway_users
            [ ${#users[@]} -eq 0 ] ||
                die "gateways with an access key are there: ${users[*]}. Take each right away first: $cloud/bin/add-gateway.sh --remove NAME;
    they keep their readings until they have a certificate"
        fi
    done
}

check_viewer() {
    [ -n "$live" ] || return 0
    if [ -z "$viewer" ]; then
        [[ " ${given[*]%%=*} " != *" ViewerCidr "* ]] || return 0
        # A later run keeps what the first one said.
        [ "$(stack_status "$STACK-live")" = NONE ] || return 0
        die "who may log in to the dashboard? Give --viewer with your own address, such as --viewer 203.0.113.7/32
    (curl -s https://checkip.amazonaws.com shows it), or --no-live for no dashboard; it can follow any time"
    fi
    if [ "$viewer" = none ]; then
        [ "$(stack_status "$STACK-live")" != NONE ] ||
            die "the domain is set up from inside --viewer: give your own address first. Afterwards --viewer none closes it"
        viewer=
    fi
    local asked=$viewer
    [ -z "$viewer" ] || viewer=$(python3 -c 'import ipaddress, sys
network = ipaddress.IPv4Network(sys.argv[1])
sys.exit("half the world") if network.prefixlen < 8 else print(network)' "$viewer" 2>/dev/null) ||
        usage "--viewer takes a network of your own such as 203.0.113.7/32 or 203.0.113.0/24, not \"$asked\""
    given+=("ViewerCidr=$viewer")
}

# How long the index keeps things is said to the indexer and to the domain, which is open from inside --viewer alone.
check_retention() {
    [ -n "$live" ] || return 0
    local pair asked='' own='' viewer=''
    if load_stack "$STACK-live"; then own=${PARAMETER[ExistingEndpoint]:-} viewer=${PARAMETER[ViewerCidr]:-}; fi
    for pair in "${given[@]}"; do
        case $pair in
            ExistingEndpoint=*) own=${pair#*=} ;;
            ViewerCidr=*) viewer=${pair#*=} ;;
            ReadingsRetentionDays=* | MinutesRetentionDays=*)
                [[ ${pair#*=} =~ ^[1-9][0-9]{0,3}$ ]] || usage "${pair%%=*} takes a number of days, not \"${pair#*=}\""
                asked=yes
                ;;
        esac
    done
    [ -z "$asked" ] || [ -n "$own$viewer" ] ||
        die "how long the index keeps things is set from inside --viewer: give your own address too"
}

# deploy_part PART STACK KEY=VALUE...: with what was given, and what the lake hands over.
deploy_part() {
    local part=$1 stack=$2 pair name pairs=("${@:3}")
    while IFS= read -r -d '' pair; do pairs+=("$pair"); done < <(values "$part")
    if [ "$part" != lake ]; then
        while read -r name _; do
            [ -z "${WIRED[$name]:-}" ] || pairs+=("$name=${OUTPUT[${WIRED[$name]}]:-}")
        done < <(declared "$part")
    fi
    deploy_stack "$part" "$stack" "${pairs[@]}"
}

# lake_is_there: its outputs are loaded. False in a rehearsal before the first run: the others take their values from it.
lake_is_there() {
    if load_stack "$STACK" && [ -n "${OUTPUT[Bucket]:-}" ]; then return; fi
    [ -n "$DRY_RUN" ] || die "the stack $STACK has no outputs: look at it with status.sh"
    echo "    the other stacks take their parameters from this one: they can be shown when it exists"
    return 1
}

# upload FILE NAME ENDING: CODE_KEY is where it is. The name is of its bytes, so that a new build is a change of the stack.
upload() {
    CODE_KEY=${OUTPUT[Prefix]:-}artifacts/$2-$(python3 -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()[:16])' "$1").$3
    [ -z "$DRY_RUN" ] || return 0
    aws s3api head-object --bucket "${OUTPUT[Bucket]}" --key "$CODE_KEY" >/dev/null 2>&1 ||
        aws s3api put-object --bucket "${OUTPUT[Bucket]}" --key "$CODE_KEY" --body "$1" >/dev/null
}

upload_streaming() {
    if [ -z "$jar" ]; then
        need mvn "apt-get install maven, or give --streaming-jar FILE"
        mvn --batch-mode --quiet --file "$cloud/streaming/pom.xml" -Pconnector package -DbuildFolder="$WORK/streaming" >&2 ||
            die "the Flink application could not be built; what Maven said is above"
        jar=$WORK/streaming/hr-streaming.jar
    fi
    [ -s "$jar" ] || die "there is no $jar: see packaging/cloud/streaming/pom.xml"
    upload "$jar" hr-streaming jar
}

# deploy_streaming [CodeKey=KEY]: a task for each shard, for the watermark's sake (streaming/windows.sql). What is there follows
# the stream's shards in each run; without a key it keeps its code.
deploy_streaming() {
    local shards follow=() pair
    shards=$(aws kinesis describe-stream-summary --stream-name "${OUTPUT[StreamArn]##*/}" \
        --query StreamDescriptionSummary.OpenShardCount --output text)
    follow=("Parallelism=$shards" "WindowShardCount=$(PYTHONPATH=$cloud/lib python3 -c 'import sys, sizing
print(sizing.window_shards(int(sys.argv[1])))' "$shards")")
    for pair in "${follow[@]}"; do
        [[ " ${given[*]%%=*} " == *" ${pair%%=*} "* ]] || given+=("$pair")
    done
    deploy_part streaming "$STACK-streaming" "$@"
    [ -n "$DRY_RUN" ] || start_application
}

# start_application: CloudFormation makes it, and starts it never. One that runs is left running.
start_application() {
    local state began=$SECONDS
    while :; do
        state=$(aws kinesisanalyticsv2 describe-application --application-name "$STACK-streaming" \
            --query ApplicationDetail.ApplicationStatus --output text)
        case $state in
            RUNNING) return ;;
            READY)
                aws kinesisanalyticsv2 start-application --application-name "$STACK-streaming" >/dev/null
                echo "    the application is started"
                ;;
        esac
        [ $((SECONDS - began)) -lt $APPLICATION_SECONDS_MAX ] ||
            die "the application $STACK-streaming is $state after $((APPLICATION_SECONDS_MAX / 60)) min: its log group says why. Then run this again"
        sleep "$POLL_SECONDS"
    done
}

upload_indexer() {
    if [ -z "$zip" ]; then
        if [ ! -x "$cloud/../build-lambda.sh" ] || ! command -v apt-get >/dev/null; then
            die "the indexer is built on Debian alone: give --lambda-zip hr-indexer-VERSION-arm64.zip, which
    packaging/package-release.sh makes there, or --no-live"
        fi
        zip=$("$cloud/../build-lambda.sh" | tail -n 1)
    fi
    [ -s "$zip" ] || die "there is no $zip: packaging/build-lambda.sh makes it"
    upload "$zip" hr-indexer zip
}

# deploy_live: other code goes in last, as it may need what the domain's roles give only once they are set up again: without it
# the stream would stand still at the indexer.
deploy_live() {
    local before
    before=$(load_stack "$STACK-live" && echo "${PARAMETER[CodeKey]:-}") || before=
    if [ -n "$DRY_RUN" ] || [ -z "$before" ] || [ "$before" = "$CODE_KEY" ]; then
        deploy_part live "$STACK-live" "CodeKey=$CODE_KEY"
        [ -n "$DRY_RUN" ] || set_up_dashboard
        return
    fi
    deploy_part live "$STACK-live" "CodeKey=$before"
    echo "the domain first, then the indexer of this version"
    set_up_dashboard
    [ -n "$set_up" ] || die "the indexer is the one of before: another one goes in together with the domain's roles, from inside
    --viewer. Give your own address; afterwards --viewer none closes it again"
    load_stack "$STACK"
    deploy_part live "$STACK-live" "CodeKey=$CODE_KEY"
}

set_up='' lacking='' # Whether the domain was, and whether it has not all that was put there.

# Index templates, retention, roles, dashboard and monitors: through the domain's own address, as its master user.
set_up_dashboard() {
    local topic=${OUTPUT[Topic]} status=0
    load_stack "$STACK-live"
    endpoint=${OUTPUT[Endpoint]} secret=${OUTPUT[MasterSecretArn]:-}
    if [ -n "$secret" ] && [ -z "${PARAMETER[ViewerCidr]:-}" ]; then
        echo "nobody may log in, so the domain stays as it was set up; --viewer with your address opens it"
        return
    fi
    master_credentials ||
        die "the stacks are up, but the dashboard is not:
    put your domain's OPENSEARCH_USER and OPENSEARCH_PASSWORD into the environment and run this again"
    "$cloud/opensearch/setup.sh" "$endpoint" --indexer-role "${OUTPUT[IndexerRoleArn]}" --topic "$topic" \
        --alert-role "${OUTPUT[AlertRoleArn]}" --nodes "${PARAMETER[NodeCount]:-1}" \
        --retention-days "${PARAMETER[ReadingsRetentionDays]}" --minutes-retention-days "${PARAMETER[MinutesRetentionDays]}" \
        --shards "$(PYTHONPATH=$cloud/lib python3 -c 'import sys, sizing
print(sizing.index_shards(*map(int, sys.argv[1:])))' "${PARAMETER[NodeCount]:-1}" "${PARAMETER[VolumeGiB]:-10}" \
            "${PARAMETER[ReadingsRetentionDays]}" "${PARAMETER[MinutesRetentionDays]}")" || status=$?
    case $status in
        0) set_up=yes ;;
        3) set_up=yes lacking=yes ;;
        *)
            die "the stacks are up, but the dashboard is not: this machine must be inside --viewer (now \"${PARAMETER[ViewerCidr]:-}\"). 
    Run this again from there"
            ;;
    esac
}

say_what_next() {
    echo
    load_stack "$STACK"
    case ${PARAMETER[GatewayIdentity]:-none} in
        none)
            echo "No gateway can send yet. For certificates: $cloud/bin/ca.sh DIR, then deploy.sh --ca DIR;"
            echo "for a first try: deploy.sh --parameter GatewayIdentity=user. Then:"
            ;;
        roles-anywhere) add=" --ca DIR" ;;
    esac
    case ${PARAMETER[AlarmEmail]:-} in
        '') echo "Nobody hears of alarms: deploy.sh --parameter AlarmEmail=you@example.org" ;;
        *) echo "Alarms go to ${PARAMETER[AlarmEmail]}, once the link in the mail that AWS sends there is opened: status.sh says whether it was." ;;
    esac
    echo "Add a gateway:   $cloud/bin/add-gateway.sh NAME${add:-}"
    echo "How it is:       $cloud/bin/status.sh"
    echo "What it costs:   $cloud/bin/estimate.sh --sensors 1 --live"
    [ -z "$live" ] || echo "Dashboard:       $endpoint/_dashboards/"
    [ -z "${secret:-}" ] || {
        echo "  as hr-admin; the password shows:"
        echo "  aws secretsmanager get-secret-value --secret-id $secret --query SecretString --output text"
    }
}

connect
need curl "apt-get install curl"
read_files
check_first_day
check_identity
check_viewer
check_retention
for part in "${parts[@]}"; do
    render "$part"
    declared "$part" >/dev/null
done
check_names
size_parts
echo "account $ACCOUNT, region $AWS_REGION"
adopted=()
status=$(stack_status "$STACK")
case $status in
    # It will be made anew.
    NONE | REVIEW_IN_PROGRESS | ROLLBACK_COMPLETE | ROLLBACK_FAILED | CREATE_FAILED) adopt_what_was_kept ;;
esac
deploy_part lake "$STACK" "${adopted[@]}"
lake_is_there || exit 0
# A trust anchor that was made anew knows of nobody who was refused before.
if [ -n "$ca" ] && [ -s "$ca/crl.pem" ] && [ -z "$DRY_RUN" ] && [ -n "${OUTPUT[TrustAnchorArn]:-}" ]; then publish_revoked "$ca"; fi
[ -z "$curated" ] || deploy_part curated "$STACK-curated"
if [ -n "$streaming" ]; then
    upload_streaming
    deploy_streaming "CodeKey=$CODE_KEY"
elif is_there "$STACK-streaming"; then
    deploy_streaming
fi
if [ -n "$live" ]; then
    upload_indexer
    deploy_live
fi
[ -n "$DRY_RUN" ] || say_what_next
[ -z "$lacking" ] || die "the stacks are up, but the domain cannot take all of the dashboard; what is missing is said above"
