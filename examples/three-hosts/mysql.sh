# MySQL or MariaDB for the play of three hosts: option file, accounts, first replication and the
# service's table as docs/mysql.md and docs/operations.md print them, taken out of those pages, with
# the host's own numbers and addresses. Sourced by `run`, which says what each function is for.

service=foo-mysql
instance=db
tree="${SENGU_MYSQL_TREE:-${XDG_CACHE_HOME:-$HOME/.cache}/sengu-servers/mysql}"

# The fenced block of a page that has these words in it.
block() {
    awk -v words="$2" '
        /^ *([0-9]+\. )?```/ { if (inside && found) { printf "%s", text; exit }
                   inside = !inside; text = ""; found = 0; next }
        inside { text = text $0 "\n"; if (index($0, words)) found = 1 }' "docs/$1"
}
if [ "$database" = mysql ]; then
    option='gtid_mode = ON' account=XA_RECOVER_ADMIN dialect='-- MySQL'
else
    option='gtid_strict_mode = ON' account='BINLOG MONITOR' dialect='-- MariaDB'
fi
# Of a block for both, the part of this one.
of_dialect() { sed 's/^ *//' | awk -v own="$dialect" '/^-- M/ { here = ($0 == own); next } here'; }
# MySQL runs in a tree of its own; below it each host has folders of its own.
root='' server=(mariadbd)
if [ "$database" = mysql ]; then root=$tree server=(chroot "$tree" /usr/sbin/mysqld); fi

sql() { on "$1" mariadb --no-defaults --user=root --socket="$root/srv/socket" --batch --silent "${@:2}"; }
answers() { sql "$1" -e 'SELECT 1'; }
db_prepare() {
    template="$folder/template"
    if [ "$database" = mysql ]; then
        template=$(mktemp -d "$tree/tmp/sengu-XXXXXX")
        scratch+=("$template")
        chroot "$tree" /usr/sbin/mysqld --no-defaults --initialize-insecure --user=root --secure-file-priv=NULL \
            --skip-log-bin --datadir="${template#"$tree"}/data" >"$folder/install.log" 2>&1
        rm "$template/data/auto.cnf"
    else
        mkdir "$template"
        # As Debian has it: no administrator from elsewhere.
        echo "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host NOT IN ('localhost', '127.0.0.1', '::1');" \
            >"$folder/local.sql"
        TMPDIR="$template" mariadb-install-db --no-defaults --auth-root-authentication-method=normal --skip-test-db \
            --extra-file="$folder/local.sql" --user=root --datadir="$template/data" >"$folder/install.log" 2>&1
    fi
}
db_start() {
    local number="${1#db}"
    on "$1" mount -t tmpfs data "$root/srv"
    on "$1" cp -R "$template/data" "$root/srv/data"
    on "$1" mkdir "$root/srv/tmp"
    {
        # The page's lines, with a number of its own.
        block mysql.md "$option" | sed "s/^server_id = 11 /server_id = 1$number /"
        printf '%s\n' "report_host = ${address[$1]}" "bind_address = ${address[$1]}" 'port = 3306' \
            'datadir = /srv/data' 'socket = /srv/socket' 'pid_file = /srv/pid' 'tmpdir = /srv/tmp' \
            'innodb_buffer_pool_size = 16M' 'user = root'
        if [ "$database" = mysql ]; then printf '%s\n' 'secure_file_priv = NULL' 'mysqlx = OFF'; fi
    } >"$folder/$1/server.cnf"
    on "$1" cp "$folder/$1/server.cnf" "$root/srv/server.cnf"
    leave "$1" "$database" "${server[@]}" --defaults-file=/srv/server.cnf
    until_so 60 answers "$1"
}
db_replicate() {
    local host
    sql db1 -e 'SET GLOBAL read_only = OFF'
    {
        block mysql.md "$account" | sed 's/…/change-me/'
        block mysql.md "CREATE USER 'repl'" | sed 's/…/change-me-too/'
        echo 'CREATE DATABASE app; CREATE TABLE app.said (id INT PRIMARY KEY, text VARCHAR(20));'
    } | tee "$folder/accounts.sql" | sql db1
    for host in db2 db3; do
        block operations.md "= '10.0.0.11'" | of_dialect | sed 's/…/change-me-too/' | sql "$host"
    done
}
db_table() {
    (umask 077 && block mysql.md '# /etc/sengu/mysql.secret' | sed '/^user/,/^password/ s/…/change-me/; s/…/change-me-too/' \
        >"$folder/$1/etc/sengu/mysql.secret")
    block mysql.md '[service.foo-mysql.instance.db1]' | sed "s/instance\\.db1/instance.$1/; s/10\\.0\\.0\\.11/${address[$1]}/"
}
is_closed() { [ "$(sql "$1" -e 'SELECT @@GLOBAL.read_only')" = 1 ]; }
follows() {
    local told
    told=$(sql "$1" --vertical -e 'SHOW REPLICA STATUS') || return 1
    grep -qE "(Source|Master)_Host: ${address[$2]}\$" <<<"$told" && grep -qE '_IO_Running: Yes' <<<"$told" &&
        grep -qE '_SQL_Running: Yes' <<<"$told"
}
db_tell() { sql "$1" --vertical -e 'SHOW REPLICA STATUS' | grep -E '_(Host|Running|Error): .'; tail -n 5 "$folder/$1/$database.log"; }
say_so() { sql "$1" -e "INSERT INTO app.said VALUES (1, 'before')"; }
was_said() { [ "$(sql "$1" -e 'SELECT text FROM app.said')" = before ]; }
