#!/bin/sh
# --exec-before, --exec-after and --exec-post-failover of mysqlfailover, and of mysqlrpladmin. They
# append hosts and ports to what is written here, split at blanks and without a shell:
#
#   --exec-before="/etc/sengu/mysqlfailover.sh before foo-db"
#   --exec-after="/etc/sengu/mysqlfailover.sh after foo-db"
#   --exec-post-failover="/etc/sengu/mysqlfailover.sh post foo-db"
#
# They go on whatever the exit code is, close nothing and open nothing: so the old master is closed
# here, by sengu, and the new one opened, by MYSQL, a client with a login that may. What sengu does
# not see to be so stays withdrawn.
set -u
MYSQL=${MYSQL:-mysql --defaults-extra-file=/etc/sengu/mysqlfailover.cnf}
phase=$1 service=$2
shift 2
opened() {
    $MYSQL --host="$1" --port="$2" --execute='SET GLOBAL read_only = 0'
}
tell() {
    exec sengu hook generic "$@" --tool mysqlfailover
}
case $phase/$# in
before/4) tell before "$service" --old "$1:$2" --new "$3:$4" --fence --deadline 120 ;;
after/4) opened "$3" "$4" && tell after "$service" --new "$3:$4" ;;
after/2) opened "$1" "$2" && tell after "$service" --new "$1:$2" ;; # a switchover
post/4) tell after "$service" --new "$3:$4" ;;
post/2) tell after "$service" --new "$1:$2" ;; # it failed: the old master stays, if it can
*)
    echo "$phase with $# more arguments is not known" >&2
    exit 1
    ;;
esac
