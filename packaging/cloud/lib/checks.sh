# shellcheck shell=bash disable=SC2034  # NEEDED is status.sh's exit status.
# Sourced by status.sh: one thing looked at, one line said.
# What must hold: what could not be asked is never OK; a quiet night is no fault.

FRESH_SECONDS_MAX=3600 # As the alarms have it.
ITERATOR_MS_MAX=3600000
STORAGE_MIB_MIN=1024
NEEDED=0

# say WHAT VALUE [WHAT TO DO]: OK without a third word.
say() {
    printf '%-12s %-66s %s\n' "$1" "$2" "${3:-OK}"
    [ -z "${3:-}" ] || NEEDED=1
}

# ask WHAT COMMAND...: the answer in ANSWER; false, and said, if there was none.
ask() {
    ANSWER=$(aws "${@:2}" --output text 2>"$WORK/error") && return
    say "$1" "could not be asked" "$(tail -n 1 "$WORK/error" | cut -c 1-200)"
    return 1
}

# at MINUTES: the time so long ago.
at() {
    python3 -c 'import datetime as d, sys
print((d.datetime.now(d.timezone.utc) - d.timedelta(minutes=int(sys.argv[1]))).strftime("%Y-%m-%dT%H:%M:%SZ"))' "$1"
}

# metric STATISTIC MINUTES NAMESPACE NAME [DIMENSION=VALUE...]: a whole number, or nothing where nothing was measured.
metric() {
    local statistic=$1 minutes=$2 fold=max dimension dimensions=()
    [ "$statistic" != Sum ] || fold=sum
    [ "$statistic" != Minimum ] || fold=min
    for dimension in "${@:5}"; do dimensions+=("Name=${dimension%%=*},Value=${dimension#*=}"); done
    aws cloudwatch get-metric-statistics --namespace "$3" --metric-name "$4" --statistics "$statistic" \
        --period $((minutes * 60)) --start-time "$(at "$minutes")" --end-time "$(at 0)" --output text \
        --query "$fold(Datapoints[].$statistic)" ${dimensions[0]:+--dimensions "${dimensions[@]}"} 2>>"$WORK/unmeasured" |
        sed 's/\..*//; s/^None$//' || true
}

# check_measurements: whether metrics could be asked at all.
check_measurements() {
    [ ! -s "$WORK/unmeasured" ] || say metrics "some could not be asked" "$(grep -v '^$' "$WORK/unmeasured" | tail -n 1 | cut -c 1-200)"
}

check_stack() {
    local status
    status=$(stack_status "$1")
    case $status in
        NONE) say stack "$1: not deployed" ;;
        *ROLLBACK* | *_FAILED) say stack "$1: $status" "its last change failed: run deploy.sh, it names the cause" ;;
        *_IN_PROGRESS) say stack "$1: $status" "wait, and look again" ;;
        *) say stack "$1: $status" ;;
    esac
}

# check_stream NAME
check_stream() {
    local status shards hours encryption records full age
    ask stream kinesis describe-stream-summary --stream-name "$1" \
        --query 'StreamDescriptionSummary.[StreamStatus,OpenShardCount,RetentionPeriodHours,EncryptionType]' || return 0
    IFS=$'\t' read -r status shards hours encryption <<<"$ANSWER"
    records=$(metric Sum 60 AWS/Kinesis IncomingRecords "StreamName=$1")
    full=$(metric Sum 60 AWS/Kinesis WriteProvisionedThroughputExceeded "StreamName=$1")
    age=$(metric Maximum 15 AWS/Kinesis GetRecords.IteratorAgeMilliseconds "StreamName=$1")
    if [ "$status" != ACTIVE ]; then
        say stream "$1: $status" "wait, and look again"
    elif [ "$encryption" != KMS ]; then
        say stream "$1: $shards open shards, $hours h, not encrypted" \
            "aws kinesis start-stream-encryption --stream-name $1 --encryption-type KMS --key-id ..."
    else
        say stream "$1: $shards open shards, $hours h, encrypted"
    fi
    if [ "${full:-0}" -gt 0 ]; then
        say "  written" "${records:-0} records in the last hour, $full refused" \
            "more shards: deploy.sh --parameter ShardCount=$((shards + 1))"
    else
        say "  written" "${records:-0} records in the last hour"
    fi
    if [ "${age:-0}" -gt $ITERATOR_MS_MAX ]; then
        say "  read" "the slowest reader is $((age / 60000)) min behind" "see the delivery's and the indexer's lines"
    else
        say "  read" "the slowest reader is $((${age:-0} / 1000)) s behind"
    fi
}

# check_delivery NAME
check_delivery() {
    local fresh
    ask delivery firehose describe-delivery-stream --delivery-stream-name "$1" \
        --query DeliveryStreamDescription.DeliveryStreamStatus || return 0
    fresh=$(metric Maximum 15 AWS/Firehose DeliveryToS3.DataFreshness "DeliveryStreamName=$1")
    if [ "$ANSWER" != ACTIVE ]; then
        say delivery "$1: $ANSWER" "aws firehose describe-delivery-stream --delivery-stream-name $1"
    elif [ "${fresh:-0}" -gt $FRESH_SECONDS_MAX ]; then
        say delivery "$1: the oldest reading waits for $((fresh / 60)) min" "aws logs tail /aws/kinesisfirehose/${1%_raw} --since 1d"
    else
        say delivery "$1: the oldest reading waits for ${fresh:-0} s"
    fi
}

# check_errors BUCKET DELIVERY PREFIX
check_errors() {
    local errors today
    errors=$(metric Sum 1440 hr-gatewayd "$2-errors")
    if [ "${errors:-0}" -gt 0 ]; then
        say "  errors" "$errors reported in the last day" "aws logs tail /aws/kinesisfirehose/$2 --since 1d"
    else
        say "  errors" "none reported in the last day"
    fi
    ask "  errors/" s3api list-objects-v2 --bucket "$1" --prefix "${3}errors/" --max-items 1000 \
        --query 'Contents[].[LastModified]' || return 0
    today=$(grep -c "^$(date -u +%Y-%m-%d)" <<<"$ANSWER" || true)
    ANSWER=$(grep -c '^[0-9]' <<<"$ANSWER" || true)
    if [ "$ANSWER" -gt 0 ]; then
        say "  errors/" "$ANSWER objects, $today of today" "see why in the log, then replay.sh --dry-run"
    else
        say "  errors/" "no objects"
    fi
}

# check_merge STATE_MACHINE: also whether its schedules are on; erase-sensor.sh pauses them.
check_merge() {
    local status began
    ask merge scheduler list-schedules --group-name "${1##*:}" --query "Schedules[?State=='DISABLED'].[Name]" || return 0
    [[ -z $ANSWER || $ANSWER == None ]] ||
        say merge "paused: ${ANSWER//$'\n'/, }" "if no erase-sensor.sh runs, one was interrupted: run it again, it goes on"
    ask merge stepfunctions list-executions --state-machine-arn "$1" --max-items 1 \
        --query 'executions[].[status,startDate,executionArn]' || return 0
    IFS=$'\t' read -r status began ANSWER < <(head -n 1 <<<"$ANSWER")
    case $status in
        SUCCEEDED | RUNNING) say merge "last run: $status, begun ${began%%.*}" ;;
        None | '') say merge "has not run yet" ;;
        *) say merge "last run: $status, begun ${began%%.*}" \
            "aws stepfunctions get-execution-history --reverse-order --max-items 5 --execution-arn $ANSWER" ;;
    esac
}

# check_indexer NAME STACK
check_indexer() {
    local errors age aside
    ask indexer lambda list-event-source-mappings --function-name "$1" --query 'EventSourceMappings[0].State' || return 0
    errors=$(metric Sum 60 AWS/Lambda Errors "FunctionName=$1")
    age=$(metric Maximum 15 AWS/Lambda IteratorAge "FunctionName=$1")
    aside=$(metric Sum 1440 hr-gatewayd "$2-lines-set-aside")
    case $ANSWER in
        Enabled | Creating | Enabling) say indexer "$1: $ANSWER, ${errors:-0} errors in an hour, $((${age:-0} / 1000)) s behind" \
            "$([ "${errors:-0}" -eq 0 ] && [ "${age:-0}" -le $ITERATOR_MS_MAX ] || echo "aws logs tail /aws/lambda/$1 --since 1h")" ;;
        *) say indexer "$1: its input is $ANSWER" "aws lambda list-event-source-mappings --function-name $1" ;;
    esac
    [ "${aside:-0}" -eq 0 ] ||
        say "  set aside" "$aside lines in the last day" \
            "aws logs filter-log-events --log-group-name /aws/lambda/$1 --filter-pattern '\"line set aside\"'"
}

# check_application NAME
check_application() {
    ask windows kinesisanalyticsv2 describe-application --application-name "$1" --query ApplicationDetail.ApplicationStatus || return 0
    case $ANSWER in
        RUNNING | STARTING | UPDATING | AUTOSCALING) say windows "$1: $ANSWER" ;;
        READY) say windows "$1: not started" "aws kinesisanalyticsv2 start-application --application-name $1" ;;
        *) say windows "$1: $ANSWER" "aws logs tail /aws/kinesis-analytics/$1 --since 1h" ;;
    esac
}

# check_queue URL
check_queue() {
    ask "  failed" sqs get-queue-attributes --queue-url "$1" --attribute-names ApproximateNumberOfMessages \
        --query Attributes.ApproximateNumberOfMessages || return 0
    [ "$ANSWER" != None ] || ANSWER=0
    if [ "$ANSWER" -gt 0 ]; then
        say "  failed" "$ANSWER batches were not indexed in time" \
            "they are in the lake; each message says where in the stream: aws sqs receive-message --queue-url $1"
    else
        say "  failed" "no batch was given up"
    fi
}

# check_domain ARN NODES
check_domain() {
    local name=${1##*/} dimensions red yellow free
    dimensions=("DomainName=$name" "ClientId=$ACCOUNT")
    ask domain opensearch describe-domain --domain-name "$name" --query 'DomainStatus.[Processing,UpgradeProcessing]' || return 0
    red=$(metric Maximum 15 AWS/ES ClusterStatus.red "${dimensions[@]}")
    yellow=$(metric Maximum 15 AWS/ES ClusterStatus.yellow "${dimensions[@]}")
    free=$(metric Minimum 15 AWS/ES FreeStorageSpace "${dimensions[@]}")
    if [ "${red:-0}" -gt 0 ]; then
        say domain "$name: red, an index has no copy left" "look at it in the console; the lake has the readings"
    elif [ -n "$free" ] && [ "$free" -lt $STORAGE_MIB_MIN ]; then
        say domain "$name: $free MiB free" "more room: deploy.sh --parameter VolumeGiB=..."
    elif [ "${yellow:-0}" -gt 0 ] && [ "$2" -eq 1 ]; then
        # Plugins make indices with a copy each, which one node has no place for. The readings' have none.
        say domain "$name: ${free:-?} MiB free; yellow, as one node is for ever: no index has a copy"
    elif [ "${yellow:-0}" -gt 0 ]; then
        say domain "$name: yellow, a copy is missing" "it mends itself if nodes are there; else look in the console"
    else
        say domain "$name: ${free:-?} MiB free$([[ $ANSWER != *True* ]] || echo ", being changed")"
    fi
}

# check_budget STACK
check_budget() {
    local name spent limit
    name=$(resources "$1" AWS::Budgets::Budget)
    [ -n "$name" ] || {
        say budget "none: nobody hears when it gets dear"
        return 0
    }
    ask budget budgets describe-budget --account-id "$ACCOUNT" --budget-name "$name" \
        --query 'Budget.[CalculatedSpend.ActualSpend.Amount,BudgetLimit.Amount]' || return 0
    IFS=$'\t' read -r spent limit <<<"$ANSWER"
    [ "$spent" != None ] || spent=0
    if [ "$(printf '%.0f' "$spent")" -ge "$(printf '%.0f' "$limit")" ]; then
        say budget "$spent of $limit dollars this month" \
            "see what it is in the console (Cost Explorer); estimate.sh says what was to be expected"
    else
        say budget "$spent of $limit dollars this month"
    fi
}

# check_listeners TOPIC: who hears of an alarm.
check_listeners() {
    local arn heard=0 pending=0
    ask "  told" sns list-subscriptions-by-topic --topic-arn "$1" --query 'Subscriptions[].[SubscriptionArn]' || return 0
    while read -r arn; do
        case $arn in
            PendingConfirmation) pending=$((pending + 1)) ;;
            arn:*) heard=$((heard + 1)) ;;
        esac
    done <<<"$ANSWER"
    if [ $pending -gt 0 ]; then
        say "  told" "$heard of alarms, $pending not confirmed" "open the link in the mail from AWS Notifications, or nobody hears"
    elif [ $heard -eq 0 ]; then
        say "  told" "nobody: deploy.sh --parameter AlarmEmail=you@example.org"
    else
        say "  told" "$heard of each alarm"
    fi
}

# check_alarms STACK...
check_alarms() {
    local stack names=() name reason
    for stack in "$@"; do
        while read -r name; do names+=("$name"); done < <(resources "$stack" AWS::CloudWatch::Alarm)
    done
    [ ${#names[@]} -gt 0 ] || {
        say alarms "none are there" "run deploy.sh"
        return 0
    }
    ask alarms cloudwatch describe-alarms --state-value ALARM --alarm-names "${names[@]}" \
        --query 'MetricAlarms[].[AlarmName,AlarmDescription]' || return 0
    [[ -n $ANSWER && $ANSWER != None ]] || {
        say alarms "${#names[@]}, all quiet"
        return 0
    }
    while IFS=$'\t' read -r name reason; do say ALARM "$name" "$reason"; done <<<"$ANSWER"
}
