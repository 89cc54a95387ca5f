# shellcheck shell=bash disable=SC2153  # STACK is common.sh's: the lake's name.
# Sourced after common.sh by deploy.sh and destroy.sh: one stack made, changed or deleted, and watched while it is.
# What must hold: nothing changes but by a change set that was shown; a wait has an end, prints what happens meanwhile,
# and leaves in CAUSE the event that began a failure.

POLL_SECONDS=${HR_POLL_SECONDS:-5}
MINUTES_MAX=90 # A domain takes fifteen minutes, and as long again to be rolled back.
CHANGE_SET_SECONDS_MAX=300
QUIET_SECONDS_MAX=60 # After which a wait says what it waits for.
TEMPLATE_BYTES_MAX=51200 # CloudFormation: a template that is handed over without a bucket.
# Their data does not come along when they are replaced.
DATA_TYPES='AWS::Kinesis::Stream AWS::S3::Bucket AWS::KMS::Key AWS::OpenSearchService::Domain'

LAST_EVENT=
CAUSE=
declare -A PENDING

# mark_events STACK: what has happened so far is not news.
mark_events() {
    CAUSE='' PENDING=()
    LAST_EVENT=$(aws cloudformation describe-stack-events --stack-name "$1" --max-items 1 \
        --query 'StackEvents[].[EventId]' --output text 2>/dev/null | head -n 1) || true
}

# show_events STACK: what happened since the last look, oldest first. True if anything did.
show_events() {
    local id at state name reason events=() event
    aws cloudformation describe-stack-events --stack-name "$1" --max-items 200 --output text \
        --query 'StackEvents[].[EventId,Timestamp,ResourceStatus,LogicalResourceId,ResourceStatusReason]' >"$WORK/events"
    while IFS=$'\t' read -r id at state name reason; do
        [ "$id" != "$LAST_EVENT" ] || break
        # A reason of several lines goes on in lines without columns.
        [ -z "$state" ] || events=("$id"$'\t'"$at"$'\t'"$state"$'\t'"$name"$'\t'"$reason" "${events[@]}")
    done <"$WORK/events"
    [ ${#events[@]} -gt 0 ] || return 1
    for event in "${events[@]}"; do
        IFS=$'\t' read -r id at state name reason <<<"$event"
        [ "$reason" != None ] || reason=
        printf '    %s  %-28s %s%s\n' "${at:11:8}" "$state" "$name" "${reason:+: $reason}"
        case $state in
            *_FAILED)
                unset "PENDING[$name]"
                # What was called off because of it is not the cause.
                [[ -n $CAUSE || $reason == *ancelled* ]] || CAUSE="$name: $reason"
                ;;
            *_IN_PROGRESS) PENDING[$name]=yes ;;
            *) unset "PENDING[$name]" ;;
        esac
        LAST_EVENT=$id
    done
}

# follow STACK: prints its events until nothing is under way; STATE is then its state.
follow() {
    local began=$SECONDS spoke=$SECONDS
    while :; do
        STATE=$(stack_status "$1")
        [ "$STATE" != NONE ] || return 0
        if show_events "$1"; then spoke=$SECONDS; fi
        case $STATE in
            REVIEW_IN_PROGRESS) return 0 ;;
            *_IN_PROGRESS) ;;
            *) return 0 ;;
        esac
        if [ $((SECONDS - spoke)) -ge $QUIET_SECONDS_MAX ]; then
            printf '    still under way after %d min: %s\n' $(((SECONDS - began) / 60)) "${!PENDING[*]}"
            spoke=$SECONDS
        fi
        [ $((SECONDS - began)) -lt $((MINUTES_MAX * 60)) ] ||
            die "$1 is still $STATE after $MINUTES_MAX minutes. It goes on by itself; run the same command again, it waits on."
        sleep "$POLL_SECONDS"
    done
}

# delete_stack STACK: gone, or the end. What the template retains stays.
delete_stack() {
    local id
    id=$(aws cloudformation describe-stacks --stack-name "$1" --query 'Stacks[0].StackId' --output text)
    mark_events "$id"
    aws cloudformation delete-stack --stack-name "$id"
    # By its id a deleted stack can still be asked.
    follow "$id"
    case $STATE in
        DELETE_COMPLETE | NONE) ;;
        *) die "$1 could not be deleted (now $STATE): ${CAUSE:-see its events}. Put that right and run the same command again." ;;
    esac
}

# render PART: the template, into $WORK/PART.yaml.
render() {
    "$LIB/render.py" "$1" >"$WORK/$1.yaml"
    [ "$(wc -c <"$WORK/$1.yaml")" -le $TEMPLATE_BYTES_MAX ] || die "the template of $1 is larger than $TEMPLATE_BYTES_MAX bytes"
}

# declared PART: each parameter of the template and its default, by a tab.
declared() {
    [ -s "$WORK/$1.declared" ] ||
        aws cloudformation get-template-summary --template-body "file://$WORK/$1.yaml" --output text \
            --query 'Parameters[].[ParameterKey,DefaultValue]' >"$WORK/$1.declared"
    cat "$WORK/$1.declared"
}

# write_parameters PART STACK KEY=VALUE...: those given, and of the rest what the stack has now.
write_parameters() {
    local part=$1 stack=$2 previous=/dev/null
    shift 2
    [ "$TYPE" = CREATE ] || {
        aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].Parameters[].[ParameterKey]' \
            --output text >"$WORK/previous"
        previous=$WORK/previous
    }
    declared "$part" | python3 -c '
import json, sys
declared = [line.split("\t")[0].strip() for line in sys.stdin]
previous = open(sys.argv[1]).read().split()
given = dict(pair.split("=", 1) for pair in sys.argv[2:])
print(json.dumps([
    {"ParameterKey": name, "ParameterValue": given[name]} if name in given
    else {"ParameterKey": name, "UsePreviousValue": True}
    for name in declared if name in given or name in previous]))' "$previous" "$@" >"$WORK/parameters.json"
}

# deploy_stack PART STACK KEY=VALUE...: by a change set that is shown first; with --dry-run it is only shown.
deploy_stack() {
    local part=$1 stack=$2
    echo "$stack"
    prepare_stack "$stack"
    [ "$TYPE" != BLOCKED ] || return 0
    write_parameters "$@"
    make_change_set "$part" "$stack"
    if [ "$TYPE" = NOTHING ]; then
        echo "    no changes"
        return
    fi
    show_changes "$stack"
    if [ -n "$DRY_RUN" ]; then
        drop_change_set "$stack"
        return
    fi
    mark_events "$stack"
    # What a first creation makes and then rolls back leaves nothing behind, also where the template retains.
    aws cloudformation execute-change-set --stack-name "$stack" --change-set-name "$CHANGE_SET" --retain-except-on-create
    follow "$stack"
    case $STATE in
        CREATE_COMPLETE | UPDATE_COMPLETE) ;;
        *) explain_failure "$stack" ;;
    esac
}

# prepare_stack STACK: sets TYPE to CREATE or UPDATE, or to BLOCKED if a rehearsal can show no more.
prepare_stack() {
    local status
    status=$(stack_status "$1")
    case $status in
        REVIEW_IN_PROGRESS) ;;
        *_IN_PROGRESS)
            echo "    something is under way already ($status): waiting for its end"
            mark_events "$1"
            follow "$1"
            status=$STATE
            ;;
    esac
    case $status in
        NONE | DELETE_COMPLETE | REVIEW_IN_PROGRESS) TYPE=CREATE ;;
        ROLLBACK_COMPLETE | ROLLBACK_FAILED | CREATE_FAILED)
            # It never worked, so it holds nothing; CloudFormation lets such a stack only be deleted.
            echo "    $status: what is left of its first creation, which failed, is deleted first"
            TYPE=BLOCKED
            [ -z "$DRY_RUN" ] || return 0
            delete_stack "$1"
            TYPE=CREATE
            ;;
        UPDATE_ROLLBACK_FAILED)
            die "$1 is UPDATE_ROLLBACK_FAILED: see its events, run: aws cloudformation continue-update-rollback --stack-name $1; then this again"
            ;;
        DELETE_FAILED) die "$1 is DELETE_FAILED: run destroy.sh until it is gone, then this again" ;;
        *) TYPE=UPDATE ;;
    esac
}

# make_change_set PART STACK: CHANGE_SET is ready to be executed; TYPE becomes NOTHING if there is nothing to change.
make_change_set() {
    local part=$1 stack=$2 began=$SECONDS status reason
    CHANGE_SET=deploy-$(date -u +%Y%m%d%H%M%S)-$$
    aws cloudformation create-change-set --stack-name "$stack" --change-set-name "$CHANGE_SET" --change-set-type "$TYPE" \
        --template-body "file://$WORK/$part.yaml" --parameters "file://$WORK/parameters.json" \
        --capabilities CAPABILITY_IAM --tags "Key=$STACK_TAG,Value=$STACK" --output json >/dev/null
    while :; do
        IFS=$'\t' read -r status reason < <(aws cloudformation describe-change-set --stack-name "$stack" \
            --change-set-name "$CHANGE_SET" --query '[Status,StatusReason]' --output text)
        case $status in
            CREATE_COMPLETE) return ;;
            FAILED)
                drop_change_set "$stack"
                case $reason in
                    *"didn't contain changes"* | *"No updates are to be performed"*) TYPE=NOTHING && return ;;
                esac
                die "CloudFormation refuses the changes to $stack: $reason"
                ;;
        esac
        [ $((SECONDS - began)) -lt $CHANGE_SET_SECONDS_MAX ] ||
            die "the change set $CHANGE_SET of $stack is still $status after $CHANGE_SET_SECONDS_MAX s: run the same command again"
        sleep "$POLL_SECONDS"
    done
}

# drop_change_set STACK: also the stack, if it is there only because of it.
drop_change_set() {
    aws cloudformation delete-change-set --stack-name "$1" --change-set-name "$CHANGE_SET" >/dev/null
    [ "$TYPE" != CREATE ] || aws cloudformation delete-stack --stack-name "$1"
}

# show_changes STACK: one a line. The end if data would be left behind and nobody said that it may.
show_changes() {
    local action name type replaced lost=
    aws cloudformation describe-change-set --stack-name "$1" --change-set-name "$CHANGE_SET" --output text \
        --query 'Changes[].ResourceChange.[Action,LogicalResourceId,ResourceType,Replacement]' | sort >"$WORK/changes"
    while IFS=$'\t' read -r action name type replaced; do
        case $replaced in True) replaced='  REPLACED' ;; Conditional) replaced='  may be replaced' ;; *) replaced= ;; esac
        printf '    %-7s %-28s %s%s\n' "$action" "$name" "$type" "$replaced"
        case " $DATA_TYPES " in
            *" $type "*) [ "$action" != Remove ] && [ -z "$replaced" ] || lost+=" $name" ;;
        esac
    done <"$WORK/changes"
    if [ -n "$lost" ] && [ -z "$ALLOW_REPLACEMENT" ]; then
        drop_change_set "$1"
        die "this would leave data behind:$lost. Nothing was changed in $1. If that is meant, add --allow-replacement."
    fi
}

explain_failure() {
    local outcome
    case $STATE in
        ROLLBACK_COMPLETE) outcome="What it had made is gone again; deploy.sh removes the empty record by itself next time." ;;
        UPDATE_ROLLBACK_COMPLETE) outcome="The stack is as it was before." ;;
        REVIEW_IN_PROGRESS) outcome="Nothing was made." ;;
        *) outcome="Look at it with status.sh." ;;
    esac
    die "$1 failed: ${CAUSE:-see its events}. It is now $STATE. $outcome Put the cause right and run the same command again."
}
