//! Every mistake with its exact message: what is wrong, where, and the way out.

use super::bad;

#[test]
fn an_unknown_key() {
    bad(
        r#"
host = "db1"
[dns]
recursor = ["10.0.0.1"]
"#,
        r#"
  x unknown key `recursor` in [dns]
   ,-[/etc/sengu/sengu.toml:3:1]
 2 | [dns]
 3 | recursor = ["10.0.0.1"]
   : ^^^^|^^^
   :     `-- not known
   `----
  help: did you mean `recursors`?
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_key_in_a_service_is_unknown_and_a_password_is_not_shown() {
    bad(
        r#"
[service.foo]
kind = "redis"
password = "hunter2"
[service.foo.instance.a]
address = "127.0.0.1:6379"
"#,
        r#"
  x unknown key `password` in [service.foo]
   ,-[/etc/sengu/sengu.toml:3:1]
 2 | kind = "redis"
 3 | password =**********
   : ^^^^|^^^
   :     `-- not known
 4 | [service.foo.instance.a]
   `----
  help: a password never stands in this file; see `credentials`
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn text_that_is_not_toml() {
    bad(
        r#"
host = "db1
[dns]
"#,
        r#"
  x invalid basic string, expected `"`
   ,-[/etc/sengu/sengu.toml:1:12]
 1 | host = "db1
   :            ^
   :            `-- here
 2 | [dns]
   `----
  help: the file is TOML: texts in quotes, as in `key = "value"`
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn several_mistakes_are_told_together() {
    bad(
        r#"
host = "a.b"
address = "ten"
[store]
lease = "6"
"#,
        r#"
  x "a.b" is no host name: 1 to 63 letters, digits, `-` or `_`, and a letter or digit first
   ,-[/etc/sengu/sengu.toml:1:8]
 1 | host = "a.b"
   :        ^^|^^
   :          `-- here
 2 | address = "ten"
   `----
  help: for example `host = "db1"`
  x "ten" is not an IP address
   ,-[/etc/sengu/sengu.toml:2:11]
 1 | host = "a.b"
 2 | address = "ten"
   :           ^^|^^
   :             `-- here
 3 | [store]
   `----
  help: for example `address = "10.0.0.11"`
  x "6" has no unit; write `6s` or `6ms`
   ,-[/etc/sengu/sengu.toml:4:9]
 3 | [store]
 4 | lease = "6"
   :         ^|^
   :          `-- here
   `----
  help: for example `lease = "6s"`
/etc/sengu/sengu.toml has 3 mistakes
"#,
    );
}

#[test]
fn a_wrong_type() {
    bad(
        r#"
[store]
lease = 6
"#,
        r#"
  x `lease` in [store] is not a duration
   ,-[/etc/sengu/sengu.toml:2:9]
 1 | [store]
 2 | lease = 6
   :         |
   :         `-- this is a whole number
   `----
  help: for example `lease = "6s"`
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_lease_out_of_bounds() {
    bad(
        r#"
[store]
lease = "90s"
"#,
        r#"
  x `lease` in [store] is out of bounds
   ,-[/etc/sengu/sengu.toml:2:9]
 1 | [store]
 2 | lease = "90s"
   :         ^^|^^
   :           `-- here
   `----
  help: it may be 1s to 1m
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn etcd_without_its_members() {
    bad(
        r#"
[store]
kind = "etcd"
"#,
        r#"
  x `endpoints` is missing in [store]
   ,-[/etc/sengu/sengu.toml:1:1]
 1 | [store]
   : ^^^|^^^
   :    `-- it belongs here
 2 | kind = "etcd"
   `----
  help: for example `endpoints = ["http://10.0.0.11:2379", "http://10.0.0.12:2379",
        "http://10.0.0.13:2379"]`
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_lease_that_an_election_of_etcd_outlasts() {
    bad(
        r#"
[store]
kind = "etcd"
endpoints = ["http://10.0.0.11:2379"]
lease = "3s"
"#,
        r#"
  x the lease of 3s is too short: two of etcd's election time-outs (1s), two beats (375ms) and the
  | fence (750ms) take 3s500ms
   ,-[/etc/sengu/sengu.toml:1:1]
 1 | [store]
   : ^^^|^^^
   :    `-- here
 2 | kind = "etcd"
   `----
  help: make `lease` longer, or etcd's election shorter (`election` tells which it is)
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_key_of_etcd_for_the_embedded_store() {
    bad(
        r#"
[store]
endpoints = ["http://10.0.0.11:2379"]
"#,
        r#"
  x `endpoints` is for etcd, and the store is embedded
   ,-[/etc/sengu/sengu.toml:1:1]
 1 | [store]
   : ^^^|^^^
   :    `-- in this table
 2 | endpoints = ["http://10.0.0.11:2379"]
   `----
  help: add `kind = "etcd"`, or leave the key out
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn an_endpoint_that_is_none() {
    bad(
        r#"
[store]
kind = "etcd"
endpoints = ["10.0.0.11"]
"#,
        r#"
  x an endpoint is written as `http://10.0.0.11:2379` or `https://db1:2379`
   ,-[/etc/sengu/sengu.toml:3:14]
 2 | kind = "etcd"
 3 | endpoints = ["10.0.0.11"]
   :              ^^^^^|^^^^^
   :                   `-- here
   `----
  help: for example `endpoints = ["http://10.0.0.11:2379", "http://10.0.0.12:2379",
        "http://10.0.0.13:2379"]`
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn http_beyond_loopback() {
    bad(
        r#"
[http]
listen = ["0.0.0.0:8500"]
"#,
        r#"
  x 0.0.0.0:8500 is beyond loopback, and there are no tokens
   ,-[/etc/sengu/sengu.toml:2:11]
 1 | [http]
 2 | listen = ["0.0.0.0:8500"]
   :           ^^^^^^^|^^^^^^
   :                  `-- here
   `----
  help: nothing listens there without tokens: `sengu token new NAME` makes one and prints its
        lines for this file; or listen on 127.0.0.1
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_recursor_that_is_sengu() {
    bad(
        r#"
[dns]
listen = ["127.0.0.1:53"]
recursors = ["127.0.0.1"]
"#,
        r#"
  x 127.0.0.1:53 is sengu itself: questions would go in circles
   ,-[/etc/sengu/sengu.toml:3:14]
 2 | listen = ["127.0.0.1:53"]
 3 | recursors = ["127.0.0.1"]
   :              ^^^^^|^^^^^
   :                   `-- here
   `----
  help: name the resolver that other names shall go to
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn an_address_of_another_machine() {
    bad(
        r#"
[service.foo]
kind = "redis"
[service.foo.instance.a]
address = "10.0.0.12:6379"
"#,
        r#"
  x 10.0.0.12 is not an address of this machine
   ,-[/etc/sengu/sengu.toml:4:11]
 3 | [service.foo.instance.a]
 4 | address = "10.0.0.12:6379"
   :           ^^^^^^^^|^^^^^^^
   :                   `-- here
   `----
  help: an agent can only watch, fence and end processes of its own machine; configure this
        instance in the file of its own host
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn an_address_twice() {
    bad(
        r#"
[service.foo]
kind = "redis"
[service.foo.instance.a]
address = "127.0.0.1:6379"
[service.foo.instance.b]
address = "127.0.0.1:6379"
"#,
        r#"
  x 127.0.0.1:6379 is the address of foo/a already
   ,-[/etc/sengu/sengu.toml:6:11]
 5 | [service.foo.instance.b]
 6 | address = "127.0.0.1:6379"
   :           ^^^^^^^^|^^^^^^^
   :                   `-- the second
   `----
  help: each instance has an address of its own
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn external_failover_promises_no_loss() {
    bad(
        r#"
[service.foo]
kind = "mysql"
failover = "external"
loss = "none"
credentials = "/etc/sengu/mysql.secret"
[service.foo.instance.a]
address = "127.0.0.1:6379"
"#,
        r#"
  x sengu cannot keep `loss = "none"` where another tool moves the master
   ,-[/etc/sengu/sengu.toml:3:12]
 2 | kind = "mysql"
 3 | failover = "external"
   :            ^^^^^|^^^^
   :                 `-- here
 4 | loss = "none"
   `----
  help: take `loss` out, or set `failover = "auto"` or `"manual"`
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn no_loss_on_redis() {
    bad(
        r#"
[service.foo]
kind = "redis"
loss = "none"
[service.foo.instance.a]
address = "127.0.0.1:6379"
"#,
        r#"
  x redis cannot promise loss = "none": it acknowledges writes before any replica has them; use
  | "bounded"
   ,-[/etc/sengu/sengu.toml:3:8]
 2 | kind = "redis"
 3 | loss = "none"
   :        ^^^|^^
   :           `-- here
 4 | [service.foo.instance.a]
   `----
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_service_without_instances() {
    bad(
        r#"
[service.foo]
kind = "redis"
"#,
        r#"
  x service `foo` has no instance here
   ,-[/etc/sengu/sengu.toml:1:1]
 1 | [service.foo]
   : ^^^^^^|^^^^^^
   :       `-- this service
 2 | kind = "redis"
   `----
  help: add [service.foo.instance.NAME] with its `address`
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_service_without_kind() {
    bad(
        r#"
[service.foo.instance.a]
address = "127.0.0.1:6379"
"#,
        r#"
  x `kind` is missing in [service.foo]
   ,-[/etc/sengu/sengu.toml:1:10]
 1 | [service.foo.instance.a]
   :          ^|^
   :           `-- it belongs here
 2 | address = "127.0.0.1:6379"
   `----
  help: for example `kind = "redis"`
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn an_instance_without_address_and_a_priority_out_of_bounds() {
    bad(
        r#"
[service.foo]
kind = "redis"
[service.foo.instance.a]
priority = 1001
"#,
        r#"
  x `address` is missing in [service.foo.instance.a]
   ,-[/etc/sengu/sengu.toml:3:1]
 2 | kind = "redis"
 3 | [service.foo.instance.a]
   : ^^^^^^^^^^^^|^^^^^^^^^^^
   :             `-- it belongs here
 4 | priority = 1001
   `----
  help: for example `address = "10.0.0.11:6379"`
  x `priority` in [service.foo.instance.a] is out of bounds
   ,-[/etc/sengu/sengu.toml:4:12]
 3 | [service.foo.instance.a]
 4 | priority = 1001
   :            ^^|^
   :              `-- here
   `----
  help: it may be 0 to 1000
/etc/sengu/sengu.toml has 2 mistakes
"#,
    );
}

#[test]
fn names_that_are_none() {
    bad(
        r#"
[service."foo.bar"]
kind = "redis"
[service."foo.bar".instance.a]
address = "127.0.0.1:6379"
"#,
        r#"
  x "foo.bar" is no service name: 1 to 63 letters, digits, `-` or `_`, and a letter or digit first
   ,-[/etc/sengu/sengu.toml:1:10]
 1 | [service."foo.bar"]
   :          ^^^^|^^^^
   :              `-- here
 2 | kind = "redis"
   `----
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_phase_with_a_slip() {
    bad(
        r#"
[[hook]]
phase = "before-failovr"
command = ["true"]
"#,
        r#"
  x `phase` cannot be "before-failovr"
   ,-[/etc/sengu/sengu.toml:2:9]
 1 | [[hook]]
 2 | phase = "before-failovr"
   :         ^^^^^^^^|^^^^^^^
   :                 `-- not known
 3 | command = ["true"]
   `----
  help: did you mean `before-failover`?
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_hook_of_nothing() {
    bad(
        r#"
[[hook]]
phase = "after-failover"
command = []
on_error = "abort"
services = ["foo"]
"#,
        r#"
  x `command` is empty
   ,-[/etc/sengu/sengu.toml:3:11]
 2 | phase = "after-failover"
 3 | command = []
   :           ^|
   :            `-- here
 4 | on_error = "abort"
   `----
  help: write it as a list: program, then its arguments; no shell runs it
  x a hook of after-failover cannot stop the move
   ,-[/etc/sengu/sengu.toml:4:12]
 3 | command = []
 4 | on_error = "abort"
   :            ^^^|^^^
   :               `-- too late
 5 | services = ["foo"]
   `----
  help: `abort` is for the `before-` phases; use `continue`
  x there is no service `foo` in this file
   ,-[/etc/sengu/sengu.toml:5:13]
 4 | on_error = "abort"
 5 | services = ["foo"]
   :             ^^|^^
   :               `-- not known
   `----
  help: hooks run beside the new master; configure the service here first
/etc/sengu/sengu.toml has 3 mistakes
"#,
    );
}

#[test]
fn one_bracket_too_few() {
    bad(
        r#"
[hook]
phase = "after-failover"
"#,
        r#"
  x `hook` may stand several times
   ,-[/etc/sengu/sengu.toml:1:1]
 1 | [hook]
   : ^^^|^^
   :    `-- one bracket is too few
 2 | phase = "after-failover"
   `----
  help: write [[hook]] with two brackets
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_template_that_is_not_there() {
    bad(
        r#"
[[template]]
source = "absent.tera"
destination = "hosts"
"#,
        r#"
  x there is no template /etc/sengu/absent.tera; sengu brings hosts.tera, dnsmasq.tera,
  | haproxy.tera, resolved.tera, prometheus-targets.tera, redis-app.env.tera
   ,-[/etc/sengu/sengu.toml:2:10]
 1 | [[template]]
 2 | source = "absent.tera"
   :          ^^^^^^|^^^^^^
   :                `-- here
 3 | destination = "hosts"
   `----
  help: for example `source = "hosts.tera"`
  x `destination` must be an absolute path
   ,-[/etc/sengu/sengu.toml:3:15]
 2 | source = "absent.tera"
 3 | destination = "hosts"
   :               ^^^|^^^
   :                  `-- here
   `----
  help: for example `destination = "/etc/hosts"`
/etc/sengu/sengu.toml has 2 mistakes
"#,
    );
}

#[test]
fn a_secret_that_is_not_there() {
    bad(
        r#"
[service.foo]
kind = "redis"
credentials = "/etc/other"
[service.foo.instance.a]
address = "127.0.0.1:6379"
"#,
        r#"
  x cannot read /etc/other: no such file
   ,-[/etc/sengu/sengu.toml:3:15]
 2 | kind = "redis"
 3 | credentials = "/etc/other"
   :               ^^^^^^|^^^^^
   :                     `-- here
 4 | [service.foo.instance.a]
   `----
  help: for example `credentials = "/etc/sengu/redis.secret"`
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}
