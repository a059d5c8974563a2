//! What `sengu explain` prints of fixed reports.

use super::*;
use crate::cli::fixture;
use crate::cli::print::tests::look;

fn check(report: &ServiceReport, wanted: &str) {
    let shown = explain(&fixture::explained(report.clone()), &look(None));
    assert_eq!(shown.trim_end(), wanted.trim_matches('\n'), "\n{shown}");
}

#[test]
fn a_service_that_is_well() {
    check(
        &fixture::well(),
        r"
foo-redis: master is cache2 at 10.0.0.12:6379 (term 8) since 03:12:09

policy
  auto, loss bounded, rejoin resync, may kill
  max lag 10s, hung after 5s, at most 3 failovers in 10m

instances
  cache2 at 10.0.0.12:6379 on db12: master, takes writes, up, 5f3a91c0:48210
  cache3 at 10.0.0.13:6379 on db13: replica, takes no writes, up, in step, 5f3a91c0:48210

suppose the process of cache2 ends now
   +0.000 s  cache3 takes term 9
  cache3 at 10.0.0.13:6379 would be master (term 9); lost: nothing
  provided that cache2 is not started again meanwhile

rules
  named-is-serving        holds  cache2 is named
  hook-once               idle   no hook ran in term 8
  starts-fenced           stops  cache3: not looked at yet

last move
  term 8  03:12:07  cache1 → cache2: the master's process exited
    withdrawn
    fenced        0.21 s  █████
    detached      0.11 s  ██
    taken         0.20 s  █████
    promoted      1.20 s  ██████████████████████████████
    serving       0.12 s  ███
    whole         1.84 s
    no writes for 1.84 s
    lost: nothing
    ranking: cache2, cache3
    passed over: cache4: 41 s behind (limit 10 s)
    hook before-failover: done in 0.90 s, with warnings:
      /usr/local/bin/page: exit code 1

inputs
  store: embedded, revision 41, answered 0.012 s ago, lease 6.00 s
",
    );
}

#[test]
fn a_service_without_master() {
    check(
        &fixture::troubled(),
        r"
bar: no master is named (vacant, term 3, last held by b2) since 2026-11-21 20:00:00: it exited

problems
  nobody is master, and no copy can take over

policy
  manual, loss bounded, rejoin resync, may kill
  max lag 10s, hung after 5s, at most 3 failovers in 10m

instances
  b1 at 10.0.0.11:6379 on db11: replica, takes no writes, silent: no answer for 12 s, copying
    would not be promoted: a full copy was under way

suppose nothing else happens
  nobody would be master:
    no candidate: `b1`: a full copy onto it was under way

what sengu does not do
  failover: b1 is half of a copy; wait until it is done

rules
  named-is-serving        holds  cache2 is named
  hook-once               idle   no hook ran in term 8
  starts-fenced           stops  cache3: not looked at yet

requests
  pause: root@db1 asked for a pause at 03:50:00 (new switch), until 04:50:00: in force

inputs
  store: embedded, revision 41, answered 0.012 s ago, lease 6.00 s
",
    );
}
