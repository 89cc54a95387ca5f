# shellcheck shell=bash
# Sourced by ca.sh, add-gateway.sh and deploy.sh: a CA in a folder, and what it signs and revokes.
# What must hold: a key is readable by its owner only from its first byte on; nothing that exists is overwritten;
# certificates are what IAM Roles Anywhere asks for: X.509 v3, SHA-256, CA:TRUE with keyCertSign for the CA, CA:FALSE
# with digitalSignature for a gateway.

CA_DAYS=3650
GATEWAY_DAYS=365
CRL_DAYS=3650 # The list is replaced at each removal; it must not run out meanwhile.

# make_ca DIR
make_ca() {
    [[ ! -e $1/ca.key && ! -e $1/ca.pem ]] || die "$1 has a CA already; nothing was changed"
    umask 077
    mkdir -p "$1/issued"
    : >"$1/index.txt"
    echo 01 >"$1/crlnumber"
    cat >"$1/openssl.cnf" <<EOF
[ca]
default_ca = gateways
[gateways]
dir = .
database = index.txt
new_certs_dir = issued
certificate = ca.pem
private_key = ca.key
crlnumber = crlnumber
rand_serial = yes
default_md = sha256
unique_subject = no
policy = names
copy_extensions = none
[names]
commonName = supplied
[ca_extensions]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[gateway_extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[req]
distinguished_name = subject
[subject]
EOF
    (
        cd "$1" || exit
        quietly openssl ecparam -name prime256v1 -genkey -noout -out ca.key
        quietly openssl req -new -x509 -config openssl.cnf -extensions ca_extensions -key ca.key -sha256 -days $CA_DAYS \
            -subj "/CN=hr-gatewayd gateways" -out ca.pem
    )
}

# quietly COMMAND...: openssl talks while it works; what it said is shown if it failed.
quietly() {
    local said
    said=$("$@" 2>&1) || die "$1 $2 failed: $said"
}

# issue DIR NAME FOLDER: gateway.key and gateway.pem in FOLDER, for the gateway NAME.
issue() {
    umask 077
    mkdir -p "$3"
    quietly openssl ecparam -name prime256v1 -genkey -noout -out "$3/gateway.key"
    sign "$1" "$2" "$3"
}

# sign DIR NAME FOLDER: gateway.pem for gateway.key. One that is there is replaced at once.
sign() {
    local folder
    umask 077
    folder=$(cd "$3" && pwd)
    (
        cd "$1" || exit
        quietly openssl req -new -config openssl.cnf -key "$folder/gateway.key" -subj "/CN=$2" -out "issued/$2.csr"
        quietly openssl ca -batch -notext -config openssl.cnf -extensions gateway_extensions -days $GATEWAY_DAYS \
            -in "issued/$2.csr" -out "$folder/gateway.pem.new"
        rm "issued/$2.csr"
    )
    mv "$folder/gateway.pem.new" "$folder/gateway.pem"
}

# valid_serials DIR NAME: the serial numbers of the gateway's certificates that are neither revoked nor over.
valid_serials() {
    awk -F '\t' -v name="/CN=$2" '$1 == "V" && $6 == name { print $4 }' "$1/index.txt"
}

# revoke DIR NAME: all its certificates; crl.pem is the new list of all that were ever revoked.
revoke() {
    local serial
    for serial in $(valid_serials "$1" "$2"); do
        (cd "$1" && quietly openssl ca -config openssl.cnf -revoke "issued/$serial.pem" -crl_reason cessationOfOperation)
    done
    (cd "$1" && quietly openssl ca -config openssl.cnf -gencrl -crldays $CRL_DAYS -out crl.pem)
}

# publish_revoked DIR: AWS refuses what crl.pem lists, from now on. The list belongs to the loaded stack's trust anchor.
publish_revoked() {
    local crl
    crl=$(aws rolesanywhere list-crls --output text \
        --query "crls[?trustAnchorArn=='${OUTPUT[TrustAnchorArn]}' && name=='$STACK-gateways'].crlId" | sed '/^None$/d')
    if [ -n "$crl" ]; then
        aws rolesanywhere update-crl --crl-id "$crl" --crl-data "fileb://$1/crl.pem" >/dev/null
    else
        aws rolesanywhere import-crl --name "$STACK-gateways" --crl-data "fileb://$1/crl.pem" --enabled \
            --trust-anchor-arn "${OUTPUT[TrustAnchorArn]}" >/dev/null
    fi
}
