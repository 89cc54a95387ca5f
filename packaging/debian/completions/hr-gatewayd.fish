# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_hr_gatewayd_global_optspecs
    string join \n config= h/help V/version
end

function __fish_hr_gatewayd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_hr_gatewayd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_hr_gatewayd_using_subcommand
    set -l cmd (__fish_hr_gatewayd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -s V -l version -d 'Print version'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -f -a "run" -d 'Run the gateway: what the systemd unit does'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -f -a "demo" -d 'Run the main job with a simulated watch: no Bluetooth, no account'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -f -a "status" -d 'Show how the running gateway is, and what needs a look'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -f -a "tail" -d 'Show readings as they come'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -f -a "scan" -d 'Show Bluetooth devices nearby'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -f -a "check" -d 'Show the effective configuration, and where each value came from'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -f -a "queue" -d 'Look into the queue of a stopped or running gateway, and mend it'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_needs_command" -f -a "sensor" -d 'Show which device each sensor is, and let go of one'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand run" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand run" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l replay -d 'Play a recording (CSV: `offset_s,heart_rate_bpm`, or `rr_ms`) and end with it' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l speed -d 'Play this many times faster than real time' -r
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l for -d 'Stop after this much real time' -r
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l output -d 'Write NDJSON into this folder [default: a new one in the temporary directory]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l kinesis-endpoint -d 'Drain into this Kinesis endpoint instead' -r
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l stream -d 'The stream there' -r
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l sensors -d 'How many watches to simulate' -r
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l page -d 'Show the live page meanwhile, on this machine' -r
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l plain -d 'Show each reading in a line of its own, on a terminal too'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -l quiet -d 'Do not show the readings'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand demo" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand status" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand status" -l json -d 'Print JSON'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand status" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand tail" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand tail" -l json -d 'Print JSON, one line each'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand tail" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand scan" -l for -d 'Scan for so long' -r
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand scan" -l adapter -d 'Scan on this adapter only, by its name or address; may be repeated' -r
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand scan" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand scan" -l json -d 'Print JSON'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand scan" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand check" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand check" -l online -d 'Also try the adapter, the clock, the disk, the credentials and the stream'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand check" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and not __fish_seen_subcommand_from status export dead-letters requeue drop recover" -l path -d 'The queue\'s folder, instead of the configured one' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and not __fish_seen_subcommand_from status export dead-letters requeue drop recover" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and not __fish_seen_subcommand_from status export dead-letters requeue drop recover" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and not __fish_seen_subcommand_from status export dead-letters requeue drop recover" -f -a "status" -d 'The ledger, by sensor. Exit code 1 if it does not balance'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and not __fish_seen_subcommand_from status export dead-letters requeue drop recover" -f -a "export" -d 'Write every queued item to a file or stdout; takes nothing out'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and not __fish_seen_subcommand_from status export dead-letters requeue drop recover" -f -a "dead-letters" -d 'List what the sink refused for good, and why'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and not __fish_seen_subcommand_from status export dead-letters requeue drop recover" -f -a "requeue" -d 'Put dead letters back into the queue'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and not __fish_seen_subcommand_from status export dead-letters requeue drop recover" -f -a "drop" -d 'Discard dead letters for good (counted as evicted)'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and not __fish_seen_subcommand_from status export dead-letters requeue drop recover" -f -a "recover" -d 'Take back what can be read of a damaged store that was set aside, under the old ids, each once'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from status" -l path -d 'The queue\'s folder, instead of the configured one' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from status" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from export" -l format -d 'NDJSON as it would be sent, or CSV' -r -f -a "ndjson\t''
csv\t''"
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from export" -l output -d 'The file; by default stdout' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from export" -l path -d 'The queue\'s folder, instead of the configured one' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from export" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from dead-letters" -l path -d 'The queue\'s folder, instead of the configured one' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from dead-letters" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from dead-letters" -l json -d 'Print JSON, one line each'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from dead-letters" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from requeue" -l path -d 'The queue\'s folder, instead of the configured one' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from requeue" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from requeue" -l all -d 'All of them'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from requeue" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from drop" -l path -d 'The queue\'s folder, instead of the configured one' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from drop" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from drop" -l all -d 'All of them'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from drop" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from recover" -l from -d 'The folder it was set aside as; by default all such folders of this queue' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from recover" -l path -d 'The queue\'s folder, instead of the configured one' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from recover" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand queue; and __fish_seen_subcommand_from recover" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand sensor; and not __fish_seen_subcommand_from list forget" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand sensor; and not __fish_seen_subcommand_from list forget" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand sensor; and not __fish_seen_subcommand_from list forget" -f -a "list" -d 'Which device each sensor is, and whether readings flow'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand sensor; and not __fish_seen_subcommand_from list forget" -f -a "forget" -d 'Let go of a sensor\'s device: the next one that its block names takes its place, in a new session'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand sensor; and __fish_seen_subcommand_from list" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand sensor; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand sensor; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand sensor; and __fish_seen_subcommand_from forget" -l config -d 'Configuration file [default: /etc/hr-gatewayd/config.toml, which may be absent]' -r -F
complete -c hr-gatewayd -n "__fish_hr_gatewayd_using_subcommand sensor; and __fish_seen_subcommand_from forget" -s h -l help -d 'Print help'
