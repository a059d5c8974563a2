#!/bin/sh
# client-reconfig-script of Redis Sentinel: tells sengu where the master is now. Every Sentinel calls
# it; the first is believed, the others are told that it is so already.
#
#   sentinel client-reconfig-script foo-redis /etc/sengu/sentinel-reconfig.sh
#
# Arguments: <master-name> <role> <state> <from-ip> <from-port> <to-ip> <to-port>. The master's name
# in Sentinel is the service's name in sengu. Sentinel ends it after 60 s and retries after exit 1.
set -u
case $6 in
*:*) new="[$6]:$7" ;;
*) new="$6:$7" ;;
esac
exec sengu hook generic after "$1" --tool sentinel --new "$new" --wait 45
