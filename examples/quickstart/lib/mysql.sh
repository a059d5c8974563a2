# Three MySQL servers for the tour, with the files of examples/mysql-trio, from the private tree
# that integration/servers installs. Sourced after mariadb.sh, whose functions it replaces where
# the two differ; see tour.sh for what each function is for.

db_title="MySQL servers"
db_files=examples/mysql-trio
tree="${SENGU_MYSQL_TREE:-${XDG_CACHE_HOME:-$HOME/.cache}/sengu-servers/mysql}"

db_needs() {
    if [ ! -x "$tree/usr/sbin/mysqld" ]; then
        say "  - install MySQL in a tree of its own, $tree"
    fi
    if ! command -v mariadb >/dev/null; then
        say "  - install MariaDB's client by apt-get"
    fi
}
db_install() { integration/servers mysql; }
# A path as the server sees it.
inside() { printf '%s\n' "${1#"$tree"}"; }
db_prepare() {
    [ "$(id -u)" = 0 ] || die "MySQL runs in a tree of its own here, which needs root"
    say "Each has \`super_read_only = ON\` in its file ($db_files/server.cnf): it starts taking no"
    say "writes, so that a server that comes back after a crash never thinks that it is the master."
    # The servers see nothing outside their tree.
    homes="$(mktemp -d "$tree/tmp/sengu-XXXXXX")"
    scratch+=("$homes")
    chroot "$tree" /usr/sbin/mysqld --no-defaults --initialize-insecure --user=root \
        --secure-file-priv=NULL --skip-log-bin --datadir="$(inside "$homes/new")" \
        >"$folder/install.log" 2>&1 || die "mysqld --initialize failed; see $folder/install.log"
    rm "$homes/new/auto.cnf"
    secret
}
db_start() {
    local number="$1" home="$homes/$db_instance$1" address="${addresses[$(($1 - 1))]}" data
    if [ ! -d "$home" ]; then
        mkdir "$home" "$home/tmp"
        cp -R "$homes/new" "$home/data"
        data="$(inside "$home/data")"
        {
            cat "$db_files/server.cnf"
            printf '%s\n' "server_id = $number" "report_host = $address" "bind_address = $address" \
                "port = $port" "datadir = $data" "socket = $data/socket" "pid_file = $data/pid" \
                "tmpdir = $(inside "$home/tmp")" "innodb_buffer_pool_size = 16M" "secure_file_priv = NULL" "mysqlx = OFF" "user = root"
        } >"$home/server.cnf"
    fi
    chroot "$tree" /usr/sbin/mysqld --defaults-file="$(inside "$home/server.cnf")" \
        >>"$home/log" 2>&1 &
    db_pid[number]=$!
    started+=($!)
}
db_start_words() {
    say "chroot $tree /usr/sbin/mysqld --defaults-file=$(inside "$homes/$db_instance$1/server.cnf") &"
}
sql() {
    mariadb --no-defaults --user=root --socket="$homes/$db_instance$1/data/socket" \
        --batch --silent "${@:2}"
}
db_open() { sql "$1" -e 'SET GLOBAL read_only = OFF'; }
db_follow() {
    sql "$1" -e "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.$2', SOURCE_PORT = $port,
        SOURCE_USER = 'repl', SOURCE_PASSWORD = 'change-me-too', SOURCE_CONNECT_RETRY = 1,
        SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1; START REPLICA"
}
