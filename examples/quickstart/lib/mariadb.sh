# Three MariaDB servers for the tour, with the files of examples/mariadb-trio. Sourced; see
# tour.sh for what each function is for.

db_service=foo-mysql
db_instance=db
db_port=3306
db_title="MariaDB servers"
db_files=examples/mariadb-trio

db_needs() {
    if ! command -v mariadbd >/dev/null; then
        say "  - install mariadb-server by apt-get, without starting a service of it"
    fi
}
db_install() { integration/servers mariadb; }
db_prepare() {
    say "Each has \`read_only = ON\` in its file ($db_files/server.cnf): it starts taking no writes,"
    say "so that a server that comes back after a crash never thinks that it is still the master."
    # As Debian has it: no administrator from elsewhere.
    say "DELETE FROM mysql.global_priv WHERE User = 'root' AND
        Host NOT IN ('localhost', '127.0.0.1', '::1');" >"$folder/local.sql"
    # Servers that share one delete each other's temporary tables when they start.
    mkdir "$folder/tmp"
    TMPDIR="$folder/tmp" mariadb-install-db --no-defaults --auth-root-authentication-method=normal --skip-test-db \
        --extra-file="$folder/local.sql" --datadir="$folder/new" >"$folder/install.log" 2>&1 ||
        die "mariadb-install-db failed; see $folder/install.log"
    secret
}
# The agent's credentials, for nobody else to read.
secret() {
    (umask 077 && cat "$db_files/sengu.secret" >"$folder/sengu.secret")
}
db_start() {
    local number="$1" home="$folder/$db_instance$1" address="${addresses[$(($1 - 1))]}"
    if [ ! -d "$home" ]; then
        mkdir "$home" "$home/tmp"
        cp -R "$folder/new" "$home/data"
        {
            cat "$db_files/server.cnf"
            printf '%s\n' "server_id = $number" "report_host = $address" "bind_address = $address" \
                "port = $port" "datadir = $home/data" "socket = $home/data/socket" \
                "pid_file = $home/data/pid" "tmpdir = $home/tmp" "innodb_buffer_pool_size = 16M"
            if [ "$(id -u)" = 0 ]; then echo "user = root"; fi
        } >"$home/server.cnf"
    fi
    mariadbd --defaults-file="$home/server.cnf" >>"$home/log" 2>&1 &
    db_pid[number]=$!
    started+=($!)
}
db_start_words() { say "mariadbd --defaults-file=$folder/$db_instance$1/server.cnf &"; }
# The service's part of the configuration, with what is different here.
db_config() {
    sed "s#/etc/sengu/mysql.secret#$folder/sengu.secret#; s#:3306\"#:$port\"#" "$db_files/sengu.toml"
}
sql() { mariadb --no-defaults --user=root --host="127.0.0.$1" --port="$port" --batch --silent "${@:2}"; }
db_answers() { sql "$1" -e 'SELECT 1'; }
db_open() { sql "$1" -e 'SET GLOBAL read_only = OFF'; }
db_accounts() { sql "$1" <"$db_files/accounts.sql"; }
db_follow() {
    sql "$1" -e "CHANGE MASTER TO MASTER_HOST = '127.0.0.$2', MASTER_PORT = $port,
        MASTER_USER = 'repl', MASTER_PASSWORD = 'change-me-too', MASTER_CONNECT_RETRY = 1,
        MASTER_USE_GTID = slave_pos; START SLAVE"
}
db_follows() {
    local told
    told="$(sql "$1" -e 'SHOW REPLICA STATUS\G')"
    grep -q "_Host: 127.0.0.$2\$" <<<"$told" && grep -q '_IO_Running: Yes' <<<"$told" &&
        grep -q '_SQL_Running: Yes' <<<"$told"
}
db_write() { sql "$1" -e "REPLACE INTO app.greeting VALUES (1, '$2')"; }
db_has() { [ "$(sql "$1" -e 'SELECT text FROM app.greeting')" = "$2" ]; }
