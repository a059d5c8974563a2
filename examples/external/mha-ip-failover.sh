#!/bin/sh
# master_ip_failover_script and master_ip_online_change_script of MHA. Exit 0: done; 10: done with a
# warning; 1: MHA stops the failover.
#
#   [server default]
#   master_ip_failover_script = /etc/sengu/mha-ip-failover.sh --service=foo-db
#   master_ip_online_change_script = /etc/sengu/mha-ip-failover.sh --service=foo-db
#
# MHA calls `start` before it opens the new master, so this opens it, as MHA's own sample does:
# MYSQL is the client with a login that may, as `mysql --defaults-extra-file=/etc/sengu/mha.cnf`.
# The client is not a part of sengu, which promotes nobody. Passwords that MHA adds are not read.
set -u
MYSQL=${MYSQL:-mysql --defaults-extra-file=/etc/sengu/mha.cnf}
command= service= old_ip= old_port= new_ip= new_port= fence=
for word in "$@"; do
    value=${word#*=}
    case $word in
    --command=*) command=$value ;;
    --service=*) service=$value ;;
    --orig_master_ip=*) old_ip=$value ;;
    --orig_master_port=*) old_port=$value ;;
    --new_master_ip=*) new_ip=$value ;;
    --new_master_port=*) new_port=$value ;;
    esac
done
case $command in
status)
    exec sengu status "$service" >/dev/null
    ;;
stop | stopssh)
    # A new master is named here only in a planned move: the old one lives, and is closed.
    [ -z "$new_ip" ] || fence=--fence
    exec sengu hook generic before "$service" --tool mha --old "$old_ip:$old_port" $fence \
        --deadline 600
    ;;
start)
    $MYSQL --host="$new_ip" --port="$new_port" --execute='SET GLOBAL read_only = 0' || exit 1
    exec sengu hook generic after "$service" --tool mha --new "$new_ip:$new_port"
    ;;
*)
    echo "no such command: $command" >&2
    exit 1
    ;;
esac
