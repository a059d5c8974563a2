//! From what was written to what was meant: the top of the file, the store, the servers.
//!
//! Goes on after each mistake with the default in the place of the wrong value; the result is
//! given away only if there was none.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sengu_core::name::HostName;

use super::file::{self, Found, Table};
use super::keys;
use super::machine::Machine;
use super::parts::{self, Part};
use super::problem::ConfigError;
use super::{
    ChecksConfig, Config, DEFAULT_DATA_DIR, DEFAULT_SOCKET, DnsConfig, http, outputs, services,
    store, tokens,
};

/// A network of fewer bits is more than anybody's own.
const OPEN: u8 = 8;

/// What every part of the reading needs beside its table.
pub(super) struct Setting<'a> {
    /// The machine.
    pub(super) machine: &'a dyn Machine,
    /// The folder of the file, for relative paths.
    pub(super) folder: &'a Path,
}

/// Reads everything.
pub(super) fn config(
    mut parts: Vec<Part>,
    path: &Path,
    machine: &dyn Machine,
) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    parts.extend(parts::environment(machine));
    let texts = file::padded(&parts);
    let (table, problems) = file::parse(&parts, &texts);
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    let setting = Setting { machine, folder };
    let config = {
        let top = Table::top(&table, &keys::TOP, &problems);
        let parsed = problems.is_empty();
        let config = parsed.then(|| whole(&top, &setting)).flatten();
        if parsed {
            top.finish();
        }
        config
    };
    let problems = problems.into_sorted();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigError::Bad { file: name, problems }),
    }
}

/// The whole file; `None` if there is no host name to go on with.
fn whole(top: &Table<'_>, setting: &Setting<'_>) -> Option<Config> {
    let host = host(top, setting);
    let address = top.parsed("address", |text| {
        let address: IpAddr = text.parse().map_err(|_| not_an_address(text))?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(format!("{address} is no address that a name can answer with"));
        }
        Ok(address)
    });
    let data_dir = absolute(top, "data_dir").unwrap_or_else(|| DEFAULT_DATA_DIR.into());
    let socket = absolute(top, "socket").unwrap_or_else(|| DEFAULT_SOCKET.into());
    let datacenter = top.parsed("datacenter", |text| {
        let label = HostName::new(text).map_err(|_| not_a_label(text, "datacenter"))?;
        Ok(label.as_str().to_owned())
    });
    let guard = top.flag("guard").unwrap_or_default();
    let (lease, store) = store::read(top, setting);
    let dns = dns(top);
    let tokens = tokens::read(top, setting);
    let http = http::read(top, setting, !tokens.is_empty());
    let checks = checks(top, setting);
    let services = services::read(top, setting);
    let templates = outputs::templates(top, setting);
    let hooks = outputs::hooks(top, &services, setting);
    Some(Config {
        host: host?,
        address: address.map_or_else(|| setting.machine.address(), |found| found.value),
        data_dir,
        socket,
        datacenter: datacenter.map_or_else(|| "dc1".into(), |found| found.value),
        guard,
        lease,
        store,
        dns,
        http,
        tokens,
        services: services.into_iter().map(|(name, found)| (name, found.value)).collect(),
        templates,
        hooks,
        checks,
    })
}

fn host(top: &Table<'_>, setting: &Setting<'_>) -> Option<HostName> {
    if let Some(text) = top.text("host") {
        let read = |text: &str| HostName::new(text).map_err(|_| not_a_label(text, "host"));
        return top.convert("host", text, read).map(|found| found.value);
    }
    let name = setting.machine.name();
    let label = name.split('.').next().unwrap_or_default();
    let host = HostName::new(label).ok();
    if host.is_none() && !top.has("host") {
        let message = format!("`host` is missing, and the host name {label:?} is no DNS label");
        top.note(&(0..0), message, "it belongs here", Some("for example `host = \"db1\"`"));
    }
    host
}

fn dns(top: &Table<'_>) -> DnsConfig {
    let mut dns = DnsConfig::default();
    let Some(table) = top.table("dns", &keys::DNS) else { return dns };
    if let Some(listen) = table.each("listen", socket_address) {
        dns.listen = values(listen);
    }
    if let Some(domains) = table.each("domains", domain) {
        dns.domains = values(domains);
    }
    let bounds = Duration::ZERO..=Duration::from_secs(3600);
    if let Some(ttl) = table.duration("ttl", bounds) {
        dns.ttl = ttl.value;
    }
    if let Some(recursors) = table.each("recursors", recursor) {
        for recursor in &recursors {
            if dns.listen.iter().any(|own| same(own, &recursor.value)) {
                let message =
                    format!("{} is sengu itself: questions would go in circles", recursor.value);
                let help = "name the resolver that other names shall go to";
                table.note(&recursor.at, message, "here", Some(help));
            }
        }
        dns.recursors = values(recursors);
    }
    if let Some(clients) = table.each("recursion_clients", network) {
        for client in clients.iter().filter(|client| client.value.1 < OPEN) {
            let (network, bits) = client.value;
            let message = format!("{network}/{bits} would make this an open resolver");
            let help = "whoever forges an address could aim it at others: name your own networks";
            table.note(&client.at, message, "here", Some(help));
        }
        dns.recursion_clients = values(clients);
    }
    if let Some(responses) = table.whole("responses_per_second", 1..=1_000_000) {
        dns.responses_per_second = responses.value;
    }
    for (name, place) in [
        ("connections", &mut dns.connections),
        ("connections_per_address", &mut dns.connections_per_address),
    ] {
        if let Some(found) = table.whole(name, 1..=10_000) {
            *place = usize::try_from(found.value).unwrap_or(*place);
        }
    }
    table.finish();
    dns
}

/// Would a question sent to `target` come in at `own`?
fn same(own: &SocketAddr, target: &SocketAddr) -> bool {
    own.port() == target.port()
        && (own.ip() == target.ip() || own.ip().is_unspecified() && target.ip().is_loopback())
}

fn checks(top: &Table<'_>, setting: &Setting<'_>) -> ChecksConfig {
    let mut checks = ChecksConfig {
        folder: setting.folder.join("checks"),
        scripts: false,
        http_scripts: false,
        services: setting.folder.join("services"),
    };
    let Some(table) = top.table("checks", &keys::CHECKS) else { return checks };
    for (name, place) in [("folder", &mut checks.folder), ("services", &mut checks.services)] {
        let Some(folder) = table.text(name) else { continue };
        *place = setting.folder.join(&folder.value);
        if !setting.machine.exists(place) {
            let message = format!("there is no folder {}", place.display());
            table.note(&folder.at, message, "here", Some("create it, or leave the key out"));
        }
    }
    checks.scripts = table.flag("scripts").unwrap_or(false);
    checks.http_scripts = table.flag("http_scripts").unwrap_or(false);
    table.finish();
    checks
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8600))],
            domains: vec!["sengu".into(), "consul".into()],
            ttl: Duration::ZERO,
            recursors: Vec::new(),
            recursion_clients: vec![
                (IpAddr::from([127, 0, 0, 0]), 8),
                (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128),
            ],
            responses_per_second: 1000,
            connections: 256,
            connections_per_address: 64,
        }
    }
}

/// A path that must be absolute.
pub(super) fn absolute(table: &Table<'_>, name: &'static str) -> Option<PathBuf> {
    let found = table.parsed(name, |text| {
        let path = PathBuf::from(text);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(format!("`{name}` must be an absolute path"))
        }
    });
    found.map(|found| found.value)
}

/// `address:port`.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(_) => format!("{text} lacks a port"),
        Err(_) => format!("{} and a port: `address:port`", not_an_address(text)),
    })
}

fn recursor(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, 53)),
        Err(_) => text.parse().map_err(|_| not_an_address(text)),
    }
}

fn domain(text: &str) -> Result<String, String> {
    let good = text.len() <= 200 && text.split('.').all(|label| HostName::new(label).is_ok());
    if good { Ok(text.to_ascii_lowercase()) } else { Err(not_a_label(text, "domain")) }
}

fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let bad = || format!("{:?} is not a network; write it as `10.0.0.0/8`", cut(text));
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| bad())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    match bits.unwrap_or(most) {
        bits if bits <= most => Ok((address, bits)),
        bits => Err(format!("a network of this family has at most {most} bits, not {bits}")),
    }
}

fn not_an_address(text: &str) -> String {
    format!("{:?} is not an IP address", cut(text))
}

/// Why a text is no DNS label.
pub(super) fn not_a_label(text: &str, kind: &str) -> String {
    format!(
        "{:?} is no {kind} name: 1 to 63 letters, digits, `-` or `_`, and a letter or digit first",
        cut(text)
    )
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

fn values<T>(found: Vec<Found<T>>) -> Vec<T> {
    found.into_iter().map(|found| found.value).collect()
}
