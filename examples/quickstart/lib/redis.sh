# Three Redis servers for the tour. Sourced; see tour.sh for what each function is for.

db_service=foo-redis
db_instance=cache
db_port=7001
db_title="Redis servers"

db_needs() {
    if ! command -v redis-server >/dev/null; then
        say "  - install redis-server by apt-get, without starting a service of it"
    fi
}
db_install() { integration/servers redis; }
db_prepare() {
    say "Each has \`replicaof 127.0.0.1 1\` in its file: it starts taking no writes, so that a server"
    say "that comes back after a crash never thinks that it is still the master."
}
db_start() {
    local number="$1" home="$folder/$db_instance$1"
    if [ ! -d "$home" ]; then
        mkdir "$home"
        cat >"$home/redis.conf" <<END
bind ${addresses[$((number - 1))]}
port $port
dir $home
logfile $home/log
save ""
repl-diskless-sync-delay 0
replicaof 127.0.0.1 1
END
    fi
    redis-server "$home/redis.conf" &
    db_pid[number]=$!
    started+=($!)
}
db_start_words() { say "redis-server $folder/$db_instance$1/redis.conf &"; }
# The service's part of the configuration.
db_config() {
    cat <<END
[service.foo-redis]
kind = "redis"
failover = "auto"
[service.foo-redis.instance.cache1]
address = "127.0.0.1:$port"
[service.foo-redis.instance.cache2]
address = "127.0.0.2:$port"
[service.foo-redis.instance.cache3]
address = "127.0.0.3:$port"
END
}
redis() { redis-cli -h "127.0.0.$1" -p "$port" "${@:2}"; }
db_answers() { [ "$(redis "$1" PING)" = PONG ]; }
db_open() { redis "$1" REPLICAOF NO ONE >/dev/null; }
db_accounts() { :; }
db_follow() { redis "$1" REPLICAOF "127.0.0.$2" "$port" >/dev/null; }
db_follows() {
    local told
    told="$(redis "$1" INFO replication | tr -d '\r')"
    grep -qx "master_host:127.0.0.$2" <<<"$told" && grep -qx 'master_link_status:up' <<<"$told"
}
db_write() { [ "$(redis "$1" SET greeting "$2")" = OK ]; }
db_has() { [ "$(redis "$1" GET greeting)" = "$2" ]; }
