# The tour: three servers of one service, an agent, a master that moves. Sourced, with `example`,
# `about` and the options set; the database comes from redis.sh, mariadb.sh or mysql.sh, which say
#
#   db_service db_instance db_port db_title    names, and the port to try first
#   db_needs db_install                        say what will be installed; install it
#   db_prepare                                 what comes before the first server
#   db_start N, db_start_words N               start a server; how a person would
#   db_answers N, db_open N                    does it answer; make it take writes
#   db_accounts N                              make the accounts, on the master
#   db_follow N M, db_follows N M              make N follow M; does it, in step
#   db_write N TEXT, db_has N TEXT             a value, written and read
#   db_config                                  the service's part of the configuration

. examples/quickstart/lib/common.sh

# The options of every example.
options() {
    local option
    ask=yes
    check=no
    for option in "$@"; do
        case "$option" in
            --yes) ask=no ;;
            --check) ask=no check=yes ;;
            *) printf 'usage: %s\n' "$usage" >&2; exit 2 ;;
        esac
    done
}

tour() {
    trap clean_up EXIT
    trap 'exit 0' INT TERM
    title "Sengu: $example"
    say "This will"
    db_needs
    build_needs
    say "  - build sengu (cargo build)"
    say "  - start three $db_title on 127.0.0.1, 127.0.0.2 and 127.0.0.3"
    say "  - start an agent with DNS and HTTP on 127.0.0.1, and let it take the service over"
    say "It changes nothing else on this machine, and stops all of it at the end."
    if [ "$ask" = yes ]; then
        local answer
        read -r -p "Go on? [Y/n] " answer
        case "$answer" in [nN]*) exit 0 ;; esac
    fi
    if [ -n "$(db_needs)$(build_needs)" ]; then title "Installing"; fi
    if [ -n "$(db_needs)" ]; then db_install; fi
    if [ -n "$(build_needs)" ]; then integration/servers build; fi
    build
    mkdir -p target/examples
    folder="$(mktemp -d "$PWD/target/examples/XXXXXX")"
    folders+=("$folder")
    addresses=(127.0.0.1 127.0.0.2 127.0.0.3)
    port="$(free_port "$db_port" "${addresses[@]}")"
    dns="$(free_port 8600 127.0.0.1)"
    http="$(free_port 8500 127.0.0.1)"
    start_servers
    start_agent
    show_outputs
    if [ "$check" = no ]; then look_around; else check_moves; fi
}

start_servers() {
    local number
    title "Starting three $db_title"
    db_prepare
    for number in 1 2 3; do db_start "$number"; done
    for number in 1 2 3; do
        until_true 30 "$db_instance$number answers" db_answers "$number"
    done
    db_open 1
    db_accounts 1
    for number in 2 3; do db_follow "$number" 1; done
    for number in 2 3; do
        until_true 15 "$db_instance$number follows ${db_instance}1" db_follows "$number" 1
    done
    say "${db_instance}1 is the master, ${db_instance}2 and ${db_instance}3 follow it."
}

start_agent() {
    title "Starting the agent"
    cat >"$folder/announce" <<'END'
#!/bin/sh
printf '%s: %s has moved from %s to %s (term %s)\n' \
    "$SENGU_PHASE" "$SENGU_SERVICE" "$SENGU_OLD_INSTANCE" "$SENGU_NEW_INSTANCE" "$SENGU_TERM" >>"$1"
END
    chmod 755 "$folder/announce"
    printf '127.0.0.1 localhost\n' >"$folder/hosts"
    cat >"$folder/sengu.toml" <<END
host = "example"
address = "127.0.0.1"
data_dir = "$folder/data"
socket = "$folder/sengu.sock"

[dns]
listen = ["127.0.0.1:$dns"]

[http]
listen = ["127.0.0.1:$http"]

$(db_config)

[[template]]
source = "hosts.tera"
destination = "$folder/hosts"

[[hook]]
phase = "after-failover"
command = ["$folder/announce", "$folder/announced"]

[[hook]]
phase = "after-switchover"
command = ["$folder/announce", "$folder/announced"]
END
    export SENGU_CONFIG="$folder/sengu.toml"
    "$sengu" agent >"$folder/agent.log" 2>&1 &
    agent_pid=$!
    started+=("$agent_pid")
    until_true 15 "the agent answers" runs
    say "It watches, publishes nothing yet, and changes nothing, until it is told to:"
    if ! "$sengu" adopt "$db_service" --wait 30; then die "$db_service cannot be adopted"; fi
    name="master.$db_service.service.sengu"
    until_true 5 "the name answers" named 127.0.0.1
    show "$sengu" status
}
runs() { kill -0 "$agent_pid" && "$sengu" status; }
named() { "$sengu" dns "$name" --json 2>/dev/null | grep -q "\"$1\""; }
web() { curl -sS "http://127.0.0.1:$http$1"; }

show_outputs() {
    title "What it publishes"
    if command -v dig >/dev/null; then
        show dig +short @127.0.0.1 -p "$dns" "$name"
    else
        show "$sengu" dns "$name"
    fi
    if command -v curl >/dev/null; then
        local at="http://127.0.0.1:$http"
        show curl -sS "$at/master/$db_service"; echo
        show curl -sS "$at/v1/catalog/service/$db_service?tag=master"; echo
        show curl -sS -X PUT -d blue "$at/v1/kv/foo/colour"; echo
        show curl -sS "$at/v1/kv/foo/colour?raw"; echo
    else
        say "(install curl to see the HTTP side)"
    fi
    until_true 5 "the hosts file has the name" grep -q "127.0.0.1 .*$name" "$folder/hosts"
    show cat "$folder/hosts"
}

look_around() {
    title "Now try"
    cat <<END
  export SENGU_CONFIG=$folder/sengu.toml
  alias sengu=$sengu
  kill -9 ${db_pid[1]}                     # the master; then
  sengu status                         # another one is named
  sengu history $db_service              # how that went
  $(db_start_words 1)
                                       # it comes back as a replica
  sengu switchover $db_service --to ${db_instance}1
  sengu explain $db_service              # what would happen if it failed now
  cat $folder/announced
  tail -f $folder/agent.log

Ctrl-C ends everything.
END
    # A signal ends this at once, which the end of a foreground program would delay.
    wait "$agent_pid" || die "the agent has ended"
    exit 0
}

other() { named 127.0.0.2 || named 127.0.0.3; }
says() { web "$1" | grep -q "$2"; }
announced() { grep -q "$1" "$folder/announced"; }
settled() {
    "$sengu" switchover "$db_service" --to "${db_instance}1" --dry-run &&
        "$sengu" status | grep -q '^all well'
}

both_ready() {
    "$sengu" status --json | tr -d ' \n' | grep -q '"ranking":\["[a-z0-9]*","[a-z0-9]*"\]'
}

check_moves() {
    local new third
    until_true 30 "both copies could take over" both_ready
    title "Killing the master"
    show kill -9 "${db_pid[1]}"
    until_true 5 "another master is named" other
    if named 127.0.0.2; then new=2 third=3; else new=3 third=2; fi
    show "$sengu" status
    show "$sengu" history "$db_service"
    expect "$db_instance$new takes writes" db_write "$new" hello
    until_true 10 "$db_instance$third follows $db_instance$new" db_follows "$third" "$new"
    until_true 5 "the hosts file has the new master" grep -q "127.0.0.$new .*$name" "$folder/hosts"
    expect "the old master is not in the hosts file" \
        sh -c "! grep -q '127.0.0.1 .*$name' '$folder/hosts'"
    if command -v curl >/dev/null; then
        expect "/master/$db_service names $db_instance$new" \
            says "/master/$db_service" "$db_instance$new"
        expect "the catalog has it" \
            says "/v1/catalog/service/$db_service?tag=master" "127.0.0.$new"
        expect "the value in the key-value store is still there" says '/v1/kv/foo/colour?raw' blue
    fi
    local moved="$db_service has moved from"
    until_true 10 "the hook has run" \
        announced "after-failover: $moved ${db_instance}1 to $db_instance$new"

    title "The old master comes back, and gets its place back"
    db_start 1
    until_true 20 "${db_instance}1 follows $db_instance$new" db_follows 1 "$new"
    until_true 20 "the agent has seen it follow" settled
    show "$sengu" switchover "$db_service" --to "${db_instance}1"
    until_true 5 "${db_instance}1 is named" named 127.0.0.1
    expect "${db_instance}1 takes writes" db_write 1 again
    until_true 10 "$db_instance$new has what ${db_instance}1 was told" db_has "$new" again
    until_true 10 "the hook has run" \
        announced "after-switchover: $moved $db_instance$new to ${db_instance}1"
    expect "the history has three terms" \
        sh -c "'$sengu' history $db_service --json | grep -c '\"cause\"' | grep -qx 3"
    title "All is well; stopping everything."
}
