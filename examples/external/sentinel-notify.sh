#!/bin/sh
# notification-script of Redis Sentinel: withdraws the name when a failover begins, and gives it
# back when one is given up. Sentinel has nothing that waits for a hook before it promotes.
#
#   sentinel notification-script foo-redis /etc/sengu/sentinel-notify.sh
#
# Arguments: <event> <description>, as `+try-failover` and `master foo-redis 10.0.0.11 6379`.
set -u
event=$1
set -f # words of the description, no patterns
set -- $2
[ "${1:-}" = master ] || exit 0
case $3 in
*:*) old="[$3]:$4" ;;
*) old="$3:$4" ;;
esac
case $event in
+try-failover)
    # `failover-timeout` is 3 minutes unless configured.
    exec sengu hook generic before "$2" --tool sentinel --old "$old" --deadline 180 --wait 5
    ;;
-failover-abort-*)
    exec sengu hook generic after "$2" --tool sentinel --new "$old" --wait 45
    ;;
esac
