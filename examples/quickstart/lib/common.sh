# What the examples share: what they say, what they start and end, what they wait for. Sourced.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '%s\n' "$*"; }
show() { printf '%s$ %s%s\n' "$bold" "$*" "$plain"; "$@" || true; }
die() { printf '%s: %s\n' "$example" "$*" >&2; exit 1; }

# Everything started here, ended by process id.
started=()
folders=()
scratch=()
clean_up() {
    local status=$? pid
    trap - EXIT INT TERM
    if [ "$status" != 0 ] && [ -n "${folder:-}" ] && [ -f "$folder/agent.log" ]; then
        printf '\nthe end of the log of the agent:\n' >&2
        tail -n 20 "$folder/agent.log" >&2
    fi
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "${scratch[@]}"
    if [ "$status" = 0 ] && [ "$check" = yes ]; then rm -rf "${folders[@]}"; fi
    exit "$status"
}

# Waits until a command succeeds: seconds, what for, command.
until_true() {
    local deadline=$((SECONDS + $1 + 1)) what="$2"
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ]; then die "waited in vain until $what"; fi
        sleep 0.05
    done
}

# Checks something once: what, command.
expect() {
    local what="$1"
    shift
    "$@" >/dev/null 2>&1 || die "not so: $what"
    say "checked: $what"
}

in_use() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# The first free port from this one on, on all these addresses: port, addresses.
free_port() {
    local port="$1" address taken
    shift
    while :; do
        taken=no
        for address in "$@"; do
            if in_use "$address" "$port"; then taken=yes; fi
        done
        if [ "$taken" = no ]; then printf '%s\n' "$port"; return; fi
        port=$((port + 1))
    done
}

# What building needs and this machine lacks.
build_needs() {
    if ! command -v protoc >/dev/null || [ ! -e /usr/include/google/protobuf/descriptor.proto ]; then
        say "  - install protobuf-compiler and libprotobuf-dev by apt-get, to build the etcd client"
    fi
}

# Builds sengu and sets `sengu`.
build() {
    title "Building"
    cargo build --quiet --package sengu
    # The folder may be set, relative or not.
    sengu="$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug/sengu"
}
