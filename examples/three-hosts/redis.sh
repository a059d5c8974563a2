# Redis for the play of three hosts. Sourced by `run`, which says what each function is for.

service=foo-redis
instance=cache

redis() { on "$1" redis-cli -h "${address[$1]}" "${@:2}"; }
db_prepare() { :; }
db_start() {
    printf '%s\n' "bind ${address[$1]}" 'protected-mode no' 'save ""' 'dir /var/lib' \
        'repl-diskless-sync-delay 0' 'replicaof 127.0.0.1 1' >"$folder/$1/etc/redis.conf"
    leave "$1" redis redis-server /etc/redis.conf
    until_so 10 redis "$1" ping
}
db_replicate() {
    redis db1 replicaof no one >/dev/null
    redis db2 replicaof 10.0.0.11 6379 >/dev/null
    redis db3 replicaof 10.0.0.11 6379 >/dev/null
}
db_table() {
    printf '[service.foo-redis]\nkind = "redis"\nfailover = "auto"\n'
    printf '[service.foo-redis.instance.cache%s]\naddress = "%s:6379"\n' "${1#db}" "${address[$1]}"
}
is_closed() { redis "$1" set probe x 2>&1 | grep -q READONLY; }
follows() {
    local told
    told=$(redis "$1" info replication)
    grep -q "master_host:${address[$2]}" <<<"$told" && grep -q master_link_status:up <<<"$told"
}
db_tell() { redis "$1" info replication; }
say_so() { redis "$1" set said before >/dev/null; }
was_said() { [ "$(redis "$1" get said)" = before ]; }
