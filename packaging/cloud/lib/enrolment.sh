# shellcheck shell=bash disable=SC2154  # What add-gateway.sh has: ca, folder, folders, name.
# Sourced by add-gateway.sh: many gateways from a file.
# What must hold: what is wrong in the file is said before anything is made; a folder is there when all of it is; one gateway
# that cannot be enrolled holds up no other, and the end says so.

RENEW_DAYS=60

declare -A sensors=() # Of each gateway, its blocks of the configuration.
gateways=()

# read_csv FILE: fills these two, or is the end.
read_csv() {
    local gateway sensor address number=0
    local -A known=()
    [ -r "$1" ] || usage "there is no file $1 that could be read"
    while IFS=, read -r gateway sensor address || [ -n "$gateway" ]; do
        number=$((number + 1))
        address=${address%$'\r'}
        case $gateway,$sensor,$address in gateway,sensor,address | ,,) continue ;; esac
        is_name "$gateway" || usage "$1, line $number: \"$gateway\" is no name of a gateway"
        [ -n "${sensors[$gateway]+there}" ] || gateways+=("$gateway")
        sensors[$gateway]+=
        [ -n "$sensor$address" ] || continue
        is_name "$sensor" || usage "$1, line $number: \"$sensor\" is no name of a sensor"
        [[ $address =~ ^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$ ]] ||
            usage "$1, line $number: \"$address\" is no Bluetooth address, such as D4:4A:C4:B0:24:03"
        [ -z "${known[$gateway/$sensor]-}" ] || usage "$1, line $number: $gateway has a sensor $sensor already"
        known[$gateway/$sensor]=yes
        sensors[$gateway]+=$'\n[[sensor]]\nid = "'$sensor$'"\naddress = "'$address$'"\n'
    done <"$1"
    [ ${#gateways[@]} -gt 0 ] || usage "$1 names no gateway"
}

# enrol_all MAKE LOOK: each gateway of the file. MAKE makes its folder; LOOK sets STATE for one that is there: left, renewed
# (and renews it), or what a person has to look at.
enrol_all() {
    local made=0 renewed=0 left=0 status broken=()
    for name in "${gateways[@]}"; do
        folder=$folders/$name
        if [ ! -e "$folder" ]; then
            # On lines of its own: as a condition it would go on behind its first failure.
            set +e
            (
                set -e
                [ -n "$DRY_RUN" ] || "$1"
            )
            status=$?
            set -e
            if [ $status -ne 0 ]; then
                broken+=("$name")
                continue
            fi
            made=$((made + 1))
            echo "${DRY_RUN:+would be }made: $folder"
            continue
        fi
        "$2"
        case $STATE in
            left) left=$((left + 1)) ;;
            renewed)
                renewed=$((renewed + 1))
                echo "${DRY_RUN:+would be }renewed: $folder/gateway.pem"
                ;;
            *)
                broken+=("$name")
                echo "$folder: $STATE" >&2
                ;;
        esac
    done
    echo "$made made, $renewed renewed, $left left as they were, in $folders. How they get to the gateways: docs/fleet.md"
    [ ${#broken[@]} -eq 0 ] || die "not enrolled: ${broken[*]}; why is said above. The others are"
}

# look_at_certificate: of a folder that is there.
look_at_certificate() {
    local serial
    STATE=left
    look_at_config
    [ "$STATE" = left ] || return 0
    if [ ! -r "$folder/gateway.key" ]; then
        STATE="its gateway.key is not there: put it back, or move the folder away to enrol $name anew"
        return
    fi
    serial=$(openssl x509 -in "$folder/gateway.pem" -noout -serial 2>/dev/null | cut -d = -f 2) || serial=
    case $(awk -F '\t' -v serial="$serial" '$4 == serial { print $1 }' "$ca/index.txt") in
        R) STATE="its certificate was revoked: take $name out of the file, or move the folder away to enrol it anew, with another key" ;;
        V)
            openssl x509 -in "$folder/gateway.pem" -noout -checkend $((RENEW_DAYS * 86400)) >/dev/null || renew_here
            ;;
        *) renew_here ;; # None, or another CA's: AWS would refuse it.
    esac
}

renew_here() {
    STATE=renewed
    [ -n "$DRY_RUN" ] || sign "$ca" "$name" "$folder"
}

look_at_access_key() {
    STATE=left
    look_at_config
    [ "$STATE" != left ] || [ -s "$folder/aws-credentials" ] ||
        STATE="its aws-credentials are not there: put them back, or move the folder away to enrol $name anew"
}

# look_at_config: a person may have changed it, so it is not written over.
look_at_config() {
    config >"$WORK/config.toml"
    cmp -s "$WORK/config.toml" "$folder/config.toml" ||
        STATE="its config.toml is not what the file says: change one of them (the file's is $(tr '\n' ' ' <"$WORK/config.toml"))"
}
