#!/usr/bin/env bash
# Gives a gateway the right to put readings on the stream, and prints what to configure and install there.
# Installs nothing: the files and commands are for you to take to the gateway.
#
#   packaging/cloud/bin/add-gateway.sh living-room --ca DIR    with a certificate (the stack was deployed with --ca DIR)
#   packaging/cloud/bin/add-gateway.sh living-room             with an access key (GatewayIdentity=user, a first try)
#   packaging/cloud/bin/add-gateway.sh --remove living-room --ca DIR    takes the right away again
#
#   --output FOLDER  where key, certificate and configuration go; default ./hr-gateway-NAME
#   --remove         certificate: it is revoked, and AWS is told; access key: it is deleted. The hour for which
#                    AWS has let the gateway in already still passes
#   --dry-run        say what would be made
#   --yes            with --remove: do not ask
#   --stack NAME     default hr-gatewayd
#   --region, --profile   as the AWS CLI takes them
#
# NAME is the gateway's id: 1 to 64 letters, digits, ".", "_" or "-". A certificate is valid for a year: before that,
# move the folder away and run this again. All gateways share the one user's right, and a user can have two keys.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"
# shellcheck source=packaging/cloud/lib/certificates.sh
. "$cloud/lib/certificates.sh"

KEYS_MAX=2 # IAM: access keys of one user.

name='' ca='' remove='' folder=''
while [ $# -gt 0 ]; do
    if common_option "$@"; then
        shift "$TAKEN"
        continue
    fi
    case $1 in
        --remove) remove=yes ;;
        --ca | --output)
            value_of "$@"
            case $1 in --ca) ca=$2 ;; --output) folder=$2 ;; esac
            shift
            ;;
        -*) usage "unknown option \"$1\"" ;;
        *)
            [ -z "$name" ] || usage "one gateway at a time"
            name=$1
            ;;
    esac
    shift
done
# As src/reading.rs has it.
[[ $name =~ ^[A-Za-z0-9._-]{1,64}$ && $name != . && $name != .. ]] ||
    usage "\"$name\" is no name: use 1 to 64 letters, digits, \".\", \"_\" or \"-\""
folder=${folder:-hr-gateway-$name}

# The CA in --ca is the one that the stack trusts, or every certificate would be refused.
check_ca() {
    [ -n "$ca" ] || usage "the stack identifies gateways by certificates: give --ca DIR, the folder that ca.sh made"
    need openssl "apt-get install openssl"
    [[ -r $ca/ca.key && -r $ca/openssl.cnf ]] || die "$ca has no CA of ca.sh, or you may not read it"
    aws cloudformation describe-stacks --stack-name "$STACK" --output json \
        --query "Stacks[0].Parameters[?ParameterKey=='CaCertificate'].ParameterValue" |
        python3 -c 'import json, sys
trusted, own = json.load(sys.stdin)[0], open(sys.argv[1]).read()
sys.exit("".join(trusted.split()) != "".join(own.split()))' "$ca/ca.pem" ||
        die "the stack $STACK trusts another CA than the one in $ca: give that one's folder, or run deploy.sh --ca $ca"
}

write_config() {
    cat >"$folder/config.toml" <<EOF
[gateway]
id = "$name"

# One block for each watch or strap: \`hr-gatewayd scan\` prints it for each that is nearby, by its address.
#[[sensor]]
#id = "my-watch"
#address = "D4:4A:C4:B0:24:03"

[kinesis]
stream = "${OUTPUT[StreamArn]##*/}"
region = "$AWS_REGION"
EOF
}

# A folder that exists holds an earlier key.
make_folder() {
    [ ! -e "$folder" ] || die "$folder exists already: move it away, or give --output FOLDER. Nothing was made"
    umask 077
    mkdir -p "$folder"
}

add_by_certificate() {
    check_ca
    [ -z "$DRY_RUN" ] || {
        echo "would make $folder with a key, a certificate for $GATEWAY_DAYS days signed by $ca, and the configuration"
        return
    }
    make_folder
    issue "$ca" "$name" "$folder"
    write_config
    cat >"$folder/aws-config" <<EOF
[default]
credential_process = /usr/local/bin/aws_signing_helper credential-process --certificate /etc/hr-gatewayd/gateway.pem --private-key /etc/hr-gatewayd/gateway.key --trust-anchor-arn ${OUTPUT[TrustAnchorArn]} --profile-arn ${OUTPUT[ProfileArn]} --role-arn ${OUTPUT[GatewayRoleArn]}
EOF
    print_steps "gateway.pem gateway.key aws-config" "
    # the helper of IAM Roles Anywhere, for the gateway's processor: docs.aws.amazon.com, \"Get temporary security
    # credentials from IAM Roles Anywhere\"; put it at /usr/local/bin/aws_signing_helper
    sudo install -m 0644 gateway.pem aws-config /etc/hr-gatewayd/
    sudo install -m 0640 -g hr-gatewayd gateway.key /etc/hr-gatewayd/"
    echo "Valid until $(openssl x509 -in "$folder/gateway.pem" -noout -enddate | cut -d = -f 2). It can be revoked: $0 --remove $name --ca $ca"
}

add_by_user() {
    local user=${OUTPUT[GatewayUserName]} keys
    keys=$(aws iam list-access-keys --user-name "$user" --query 'length(AccessKeyMetadata)' --output text)
    [ "$keys" -lt $KEYS_MAX ] ||
        die "the user $user has $keys access keys, and IAM allows no more: remove one (--remove NAME), or use certificates (ca.sh)"
    [ -z "$DRY_RUN" ] || {
        echo "would make $folder with an access key of the user $user, and the configuration"
        return
    }
    make_folder
    write_config
    aws iam create-access-key --user-name "$user" --output text --query 'AccessKey.[AccessKeyId,SecretAccessKey]' |
        awk -F '\t' '{ printf "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", $1, $2 }' >"$folder/aws-credentials"
    [ -s "$folder/aws-credentials" ] || die "no access key came back: aws iam list-access-keys --user-name $user"
    print_steps "aws-credentials (the secret key: it is shown nowhere else)" "
    sudo install -m 0600 aws-credentials /etc/hr-gatewayd/"
    echo "The key does not expire. To take it away again, as long as $folder is here: $0 --remove $name; later:"
    echo "    aws iam delete-access-key --user-name $user --access-key-id $(sed -n 's/^aws_access_key_id = //p' "$folder/aws-credentials")"
}

# print_steps FILES COMMANDS
print_steps() {
    cat <<EOF
In $folder: $1, and config.toml:

$(sed 's/^/    /' "$folder/config.toml")

Put your sensors in. Then take the folder to the gateway, and there:
$2
    sudo install -m 0640 -g hr-gatewayd config.toml /etc/hr-gatewayd/
    sudo hr-gatewayd check --online
    sudo systemctl restart hr-gatewayd
Then delete the folder here and there.

EOF
}

remove_certificate() {
    local serials
    check_ca
    serials=$(valid_serials "$ca" "$name")
    [ -n "$serials" ] || echo "$ca knows no valid certificate of $name; AWS is told the list as it is"
    [ -z "$DRY_RUN" ] || {
        echo "would revoke: ${serials:-nothing}"
        return
    }
    [ -z "$serials" ] || confirm "$name" "The gateway $name will be refused."
    revoke "$ca" "$name"
    publish_revoked "$ca"
    echo "revoked: $name. AWS gives it no new keys; those it has end within the hour"
}

# IAM does not know which gateway has which key: the folder's, or the one that is named.
remove_key() {
    local user=${OUTPUT[GatewayUserName]} file=$folder/aws-credentials key
    [ -r "$file" ] || die "which key? There is no $file. The keys of $user, and when each was last used, are shown by
    aws iam list-access-keys --user-name $user and aws iam get-access-key-last-used --access-key-id ID; then
    aws iam delete-access-key --user-name $user --access-key-id ID"
    key=$(sed -n 's/^aws_access_key_id = //p' "$file")
    [ -z "$DRY_RUN" ] || {
        echo "would delete the access key $key of the user $user"
        return
    }
    confirm "$name" "The access key $key of $name will be refused."
    aws iam delete-access-key --user-name "$user" --access-key-id "$key"
    echo "deleted: the access key $key. $folder is of no use any more"
}

connect
need_lake
case ${PARAMETER[GatewayIdentity]:-none} in
    roles-anywhere) if [ -n "$remove" ]; then remove_certificate; else add_by_certificate; fi ;;
    user) if [ -n "$remove" ]; then remove_key; else add_by_user; fi ;;
    *)
        die "the stack $STACK lets no gateway in. For certificates: $cloud/bin/ca.sh DIR, then deploy.sh --ca DIR;
    for a first try: deploy.sh --parameter GatewayIdentity=user"
        ;;
esac
