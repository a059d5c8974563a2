//! Services of MySQL and MariaDB: what they may ask for, what is refused, and why.

use sengu_core::policy::{Loss, Rejoin};

use super::{DatabaseKind, ServiceConfig, bad, good};

fn service(kind: &str, more: &str) -> ServiceConfig {
    let text = format!(
        "[service.foo]\nkind = \"{kind}\"\ncredentials = \"/etc/sengu/{}.secret\"\n{more}\n\
         [service.foo.instance.a]\naddress = \"127.0.0.1:3306\"\n",
        if kind == "redis" { "redis" } else { "mysql" }
    );
    good(&text).services.into_values().next().expect("one")
}

#[test]
fn both_names_mean_the_family_and_its_own_defaults() {
    for kind in ["mysql", "mariadb"] {
        let preset = service(kind, "");
        assert_eq!(preset.kind, DatabaseKind::Mysql);
        assert_eq!((preset.policy.loss, preset.policy.rejoin), (Loss::Bounded, Rejoin::Ask));
        let secret = preset.credentials.expect("a secret");
        assert_eq!(secret.replication.expect("an account").user, "repl");
        let strict = service(kind, "loss = \"none\"\nrejoin = \"ask\"");
        assert_eq!(strict.policy.loss, Loss::None);
    }
    let redis = service("redis", "").policy;
    assert_eq!((redis.loss, redis.rejoin), (Loss::Bounded, Rejoin::Resync));
    assert_eq!(service("redis", "rejoin = \"ask\"").policy.rejoin, Rejoin::Ask);
}

#[test]
fn nobody_sees_a_password_in_what_is_printed() {
    let shown = format!("{:?}", service("mysql", ""));
    assert!(shown.contains("sengu") && shown.contains("repl"), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn a_server_is_not_copied_over_another() {
    bad(
        r#"
[service.foo]
kind = "mariadb"
credentials = "/etc/sengu/mysql.secret"
rejoin = "resync"
[service.foo.instance.a]
address = "127.0.0.1:3306"
"#,
        r#"
  x rejoin = "resync" is for redis: sengu cannot copy a MySQL server over another; use "ask"
  | (docs/mysql.md tells how to make such a server a copy again)
   ,-[/etc/sengu/sengu.toml:4:10]
 3 | credentials = "/etc/sengu/mysql.secret"
 4 | rejoin = "resync"
   :          ^^^^|^^^
   :              `-- here
 5 | [service.foo.instance.a]
   `----
/etc/sengu/sengu.toml has 1 mistake
"#,
    );
}

#[test]
fn a_login_needs_a_user() {
    bad(
        r#"
[service.foo]
kind = "mysql"
[service.foo.instance.a]
address = "127.0.0.1:3306"
[service.bar]
kind = "mysql"
credentials = "/etc/sengu/bare.secret"
[service.bar.instance.a]
address = "127.0.0.2:3306"
[service.baz]
kind = "redis"
credentials = "/etc/sengu/mysql.secret"
[service.baz.instance.a]
address = "127.0.0.3:3306"
"#,
        r#"
  x `credentials` is missing in [service.foo]
   ,-[/etc/sengu/sengu.toml:1:1]
 1 | [service.foo]
   : ^^^^^^|^^^^^^
   :       `-- it belongs here
 2 | kind = "mysql"
   `----
  help: for example `credentials = "/etc/sengu/redis.secret"`
  x /etc/sengu/bare.secret: mysql knows no login without a user; write lines `user = …` and
  | `password = …`
   ,-[/etc/sengu/sengu.toml:7:15]
 6 | kind = "mysql"
 7 | credentials = "/etc/sengu/bare.secret"
   :               ^^^^^^^^^^^^|^^^^^^^^^^^
   :                           `-- here
 8 | [service.bar.instance.a]
   `----
  help: for example `credentials = "/etc/sengu/redis.secret"`
  x /etc/sengu/mysql.secret: `replication_user` is for mysql: a Redis server logs in to its source
  | with its own `masteruser` and `masterauth`
    ,-[/etc/sengu/sengu.toml:12:15]
 11 | kind = "redis"
 12 | credentials = "/etc/sengu/mysql.secret"
    :               ^^^^^^^^^^^^|^^^^^^^^^^^^
    :                           `-- here
 13 | [service.baz.instance.a]
    `----
  help: for example `credentials = "/etc/sengu/redis.secret"`
/etc/sengu/sengu.toml has 3 mistakes
"#,
    );
}
