//! Services and their instances: what was meant by `[service.NAME]` and the tables below it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::policy::{DatabaseKind, Failover, InstanceConfig, Loss, Policy, Rejoin};

use super::file::{Found, Table};
use super::meant::{Setting, not_a_label, socket_address};
use super::{Credentials, ServiceConfig, TlsConfig, credentials, keys};

const HOUR: Duration = Duration::from_secs(3600);

/// Services with their places.
pub(super) type Services = BTreeMap<ServiceName, Found<ServiceConfig>>;

/// Where each instance address stands, to find it twice.
type Taken = BTreeMap<SocketAddr, String>;

/// Reads all services.
pub(super) fn read(top: &Table<'_>, setting: &Setting<'_>) -> Services {
    let mut services = Services::new();
    let mut taken = Taken::new();
    for (name, table) in top.named("service", &keys::SERVICE) {
        let service = service(&table, &name.value, setting, &mut taken);
        let read = |text: &str| ServiceName::new(text).map_err(|_| not_a_label(text, "service"));
        let Some(name) = table.convert("", name, read) else { continue };
        let at = name.at.clone();
        if services.contains_key(&name.value) {
            twice(&table, &at, "service", name.value.as_str());
        }
        services.insert(name.value, Found { at, value: service });
    }
    services
}

fn twice(table: &Table<'_>, at: &Range<usize>, kind: &str, name: &str) {
    let message = format!("there are two {kind}s `{name}`: names ignore case");
    table.note(at, message, "the second", Some("give one of them another name"));
}

fn service(
    table: &Table<'_>,
    name: &str,
    setting: &Setting<'_>,
    taken: &mut Taken,
) -> ServiceConfig {
    let kind = kind(table);
    let family = kind.unwrap_or(DatabaseKind::Redis);
    let timeout = between(table, "timeout", 10, 30_000, Duration::from_millis(500));
    let interval = between(table, "interval", 100, 60_000, Duration::from_secs(1));
    let policy = policy(table, family, timeout);
    let credentials = secret(table, setting, kind);
    let tls = table.table("tls", &keys::TLS).map(|table| tls(&table, setting));
    let mut instances = BTreeMap::new();
    for (instance, below) in table.named("instance", &keys::INSTANCE) {
        let place = instance.at.clone();
        let config = self::instance(&below, &format!("{name}/{}", instance.value), setting, taken);
        let read = |text: &str| InstanceName::new(text).map_err(|_| not_a_label(text, "instance"));
        let Some(instance) = below.convert("", instance, read) else { continue };
        if instances.contains_key(&instance.value) {
            twice(&below, &place, "instance", instance.value.as_str());
        }
        if let Some(config) = config {
            instances.insert(instance.value, config);
        }
    }
    if !table.has("instance") {
        let message = format!("service `{name}` has no instance here");
        let help = format!("add [service.{name}.instance.NAME] with its `address`");
        table.note(&table.at, message, "this service", Some(&help));
    }
    table.finish();
    ServiceConfig { kind: family, policy, credentials, tls, interval, timeout, instances }
}

/// `None` if it is wrong or missing, which is noted.
fn kind(table: &Table<'_>) -> Option<DatabaseKind> {
    if !table.has("kind") {
        table.missing("kind");
    }
    let words = [
        ("redis", DatabaseKind::Redis),
        ("mysql", DatabaseKind::Mysql),
        ("mariadb", DatabaseKind::Mysql),
    ];
    let found = table.word("kind", &words, |kind| match kind {
        "valkey" => Some("for Valkey write kind \"redis\": it speaks the same".into()),
        "percona" => Some("for Percona Server write kind \"mysql\": it speaks the same".into()),
        _ => None,
    });
    found.map(|found| found.value)
}

fn between(
    table: &Table<'_>,
    name: &'static str,
    from_millis: u64,
    to_millis: u64,
    preset: Duration,
) -> Duration {
    let bounds = Duration::from_millis(from_millis)..=Duration::from_millis(to_millis);
    table.duration(name, bounds).map_or(preset, |found| found.value)
}

/// What a family cannot promise or do is a mistake, with the reason.
fn promises(table: &Table<'_>, kind: DatabaseKind) -> (Loss, Rejoin) {
    let redis = kind == DatabaseKind::Redis;
    let losses = [("bounded", Loss::Bounded), ("none", Loss::None)];
    let loss = table.word("loss", if redis { &losses[..1] } else { &losses }, |word| {
        (word == "none").then(|| {
            "redis cannot promise loss = \"none\": it acknowledges writes before any replica has \
             them; use \"bounded\""
                .to_owned()
        })
    });
    let rejoins = [("ask", Rejoin::Ask), ("resync", Rejoin::Resync)];
    let rejoin = table.word("rejoin", if redis { &rejoins } else { &rejoins[..1] }, |word| {
        (word == "resync").then(|| {
            "rejoin = \"resync\" is for redis: sengu cannot copy a MySQL server over another; use \
             \"ask\" (docs/mysql.md tells how to make such a server a copy again)"
                .to_owned()
        })
    });
    let preset = if redis { Rejoin::Resync } else { Rejoin::Ask };
    (loss.map_or(Loss::Bounded, |found| found.value), rejoin.map_or(preset, |found| found.value))
}

fn policy(table: &Table<'_>, kind: DatabaseKind, timeout: Duration) -> Policy {
    let preset = Policy::default();
    let failover =
        [("auto", Failover::Auto), ("manual", Failover::Manual), ("external", Failover::External)];
    let failover = table.word("failover", &failover, |_| None);
    let (loss, rejoin) = promises(table, kind);
    if let Some(failover) = &failover
        && failover.value == Failover::External
        && loss == Loss::None
    {
        let message = "sengu cannot keep `loss = \"none\"` where another tool moves the master";
        let help = "take `loss` out, or set `failover = \"auto\"` or `\"manual\"`";
        table.note(&failover.at, message.to_owned(), "here", Some(help));
    }
    let max_lag = table.duration("max_lag", Duration::ZERO..=24 * HOUR);
    let hung = table.duration("hung_after", Duration::from_secs(1)..=HOUR / 6);
    if let Some(hung) = hung.as_ref().filter(|hung| hung.value < timeout) {
        let message = "`hung_after` is shorter than `timeout`: slow would count as hung".to_owned();
        table.note(&hung.at, message, "here", Some("make it several times `timeout`"));
    }
    let wait = between(table, "candidate_wait", 100, 60_000, preset.candidate_wait);
    let attempts = table.whole("max_attempts", 1..=100);
    let acks = table.whole("acknowledgements", 1..=8);
    if let Some(acks) = acks.as_ref().filter(|acks| loss != Loss::None && acks.value > 1) {
        let message = "`acknowledgements` counts only with `loss = \"none\"`".to_owned();
        table.note(&acks.at, message, "here", Some("take it out, or set `loss = \"none\"`"));
    }
    let mut policy = Policy {
        failover: failover.map_or(preset.failover, |found| found.value),
        loss,
        acks: acks.map_or(preset.acks, |found| found.value),
        rejoin,
        kill: table.flag("kill").unwrap_or(preset.kill),
        max_lag: max_lag.map_or(preset.max_lag, |found| found.value),
        hung_after: hung.map_or(preset.hung_after, |found| found.value),
        candidate_wait: wait,
        max_attempts: attempts.map_or(preset.max_attempts, |found| found.value),
        ..preset
    };
    if let Some(table) = table.table("cooldown", &keys::COOLDOWN) {
        if let Some(failovers) = table.whole("failovers", 1..=100) {
            policy.cooldown_failovers = failovers.value;
        }
        if let Some(window) = table.duration("window", Duration::from_secs(1)..=168 * HOUR) {
            policy.cooldown_window = window.value;
        }
        table.finish();
    }
    for whole in [
        &mut policy.max_lag,
        &mut policy.hung_after,
        &mut policy.candidate_wait,
        &mut policy.cooldown_window,
    ] {
        // As records have it, so that what is read back is equal.
        *whole -= Duration::from_nanos(u64::from(whole.subsec_nanos() % 1_000_000));
    }
    policy
}

pub(super) fn secret(
    table: &Table<'_>,
    setting: &Setting<'_>,
    kind: Option<DatabaseKind>,
) -> Option<Credentials> {
    if kind == Some(DatabaseKind::Mysql)
        && !table.has("credentials")
        && !table.has("credentials_env")
    {
        table.missing("credentials");
    }
    let file = table.text("credentials");
    let variable = table.text("credentials_env");
    if let (Some(_), Some(variable)) = (&file, &variable) {
        let message = "`credentials` and `credentials_env` exclude each other".to_owned();
        table.note(&variable.at, message, "one too many", Some("keep one of them"));
        return None;
    }
    if let Some(file) = file {
        let read = |text: &str| {
            let path = setting.folder.join(text);
            let content = setting.machine.secret(&path)?;
            let read = credentials::parse(&content).and_then(|secret| fit(secret, kind));
            read.map_err(|error| format!("{}: {error}", path.display()))
        };
        return table.convert("credentials", file, read).map(|found| found.value);
    }
    let read = |name: &str| {
        let content = setting.machine.variable(name);
        let content =
            content.ok_or_else(|| format!("the environment variable {name:?} is not set here"))?;
        let read = credentials::parse(&content).and_then(|secret| fit(secret, kind));
        read.map_err(|error| format!("variable {name}: {error}"))
    };
    table.convert("credentials_env", variable?, read).map(|found| found.value)
}

/// Does a secret hold what the database asks for?
fn fit(secret: Credentials, kind: Option<DatabaseKind>) -> Result<Credentials, String> {
    match kind {
        Some(DatabaseKind::Mysql) if secret.user.is_none() => {
            Err("mysql knows no login without a user; write lines `user = …` and `password = …`"
                .into())
        }
        Some(DatabaseKind::Redis) if secret.replication.is_some() => Err(
            "`replication_user` is for mysql: a Redis server logs in to its source with its own \
             `masteruser` and `masterauth`"
                .into(),
        ),
        _ => Ok(secret),
    }
}

pub(super) fn tls(table: &Table<'_>, setting: &Setting<'_>) -> TlsConfig {
    let file = |name: &'static str| {
        let found = table.parsed(name, |text| {
            let path = setting.folder.join(text);
            if setting.machine.exists(&path) {
                Ok(path)
            } else {
                Err(format!("there is no file {}", path.display()))
            }
        });
        found.map(|found| found.value)
    };
    let ca: Option<PathBuf> = file("ca");
    let identity = (file("certificate"), file("key"));
    let alone = match (table.has("certificate"), table.has("key")) {
        (true, false) => Some("key"),
        (false, true) => Some("certificate"),
        _ => None,
    };
    if let Some(other) = alone {
        table.missing(other);
    }
    table.finish();
    TlsConfig { ca, identity: identity.0.zip(identity.1) }
}

fn instance(
    table: &Table<'_>,
    name: &str,
    setting: &Setting<'_>,
    taken: &mut Taken,
) -> Option<InstanceConfig> {
    let text = table.required("address");
    let address = text.and_then(|text| table.convert("address", text, socket_address));
    if let Some(address) = &address {
        check_address(table, address, name, setting, taken);
    }
    let zone = table.parsed("zone", |text| {
        let label = InstanceName::new(text).map_err(|_| not_a_label(text, "zone"))?;
        Ok(label.as_str().to_owned())
    });
    let priority = table.whole("priority", 0..=1000).map_or(100, |found| found.value);
    table.finish();
    Some(InstanceConfig { address: address?.value, zone: zone.map(|found| found.value), priority })
}

fn check_address(
    table: &Table<'_>,
    address: &Found<SocketAddr>,
    name: &str,
    setting: &Setting<'_>,
    taken: &mut Taken,
) {
    let (at, address) = (&address.at, address.value);
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
        let message = format!("nobody can connect to {address}");
        table.note(at, message, "here", Some("name the address that clients and replicas use"));
    } else if !setting.machine.has(address.ip()) {
        let message = format!("{} is not an address of this machine", address.ip());
        let help = "an agent can only watch, fence and end processes of its own machine; \
                    configure this instance in the file of its own host";
        table.note(at, message, "here", Some(help));
    } else if let Some(other) = taken.insert(address, name.to_owned()) {
        let message = format!("{address} is the address of {other} already");
        table.note(at, message, "the second", Some("each instance has an address of its own"));
    }
}
