//! `[http]`: where it listens, what it asks of clients, TLS and bounds.
//!
//! Beyond loopback nothing listens without tokens, and nothing takes tokens in the clear unless
//! the file says that it may: both are mistakes of the file, told before anything starts.

use std::path::PathBuf;
use std::time::Duration;

use super::file::{Found, Table};
use super::keys;
use super::meant::{Setting, socket_address};
use super::{HttpConfig, HttpLimits, HttpTls};

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: vec![([127, 0, 0, 1], 8500).into()],
            plaintext: false,
            health_without_token: true,
            loopback_without_token: false,
            tls: None,
            limits: HttpLimits::default(),
        }
    }
}

/// The whole table and those below it.
pub(super) fn read(top: &Table<'_>, setting: &Setting<'_>, tokens: bool) -> HttpConfig {
    let mut http = HttpConfig::default();
    let Some(table) = top.table("http", &keys::HTTP) else { return http };
    let listen = table.each("listen", socket_address);
    for (name, place) in [
        ("plaintext", &mut http.plaintext),
        ("health_without_token", &mut http.health_without_token),
        ("loopback_without_token", &mut http.loopback_without_token),
    ] {
        *place = table.flag(name).unwrap_or(*place);
    }
    let files = table.table("tls", &keys::HTTP_TLS);
    // One that is wrong counts as there: its own mistake is the one to tell.
    let encrypted = files.as_ref().is_some_and(|files| files.has("certificate"));
    http.tls = files.and_then(|files| tls(&files, setting));
    if let Some(bounds) = table.table("limits", &keys::HTTP_LIMITS) {
        http.limits = limits(&bounds);
    }
    if let Some(listen) = listen {
        let beyond = |found: &&Found<_>| !is_loopback(&found.value);
        if let Some(beyond) = listen.iter().find(beyond) {
            let address = beyond.value;
            if !tokens {
                let message = format!("{address} is beyond loopback, and there are no tokens");
                let help = "nothing listens there without tokens: `sengu token new NAME` makes \
                            one and prints its lines for this file; or listen on 127.0.0.1";
                table.note(&beyond.at, message, "here", Some(help));
            } else if !encrypted && !http.plaintext {
                let message = format!("{address} is beyond loopback, and there is no TLS");
                let help = "tokens would cross the network for all to read: set `certificate` and \
                            `key` in [http.tls], or say `plaintext = true` in [http]";
                table.note(&beyond.at, message, "here", Some(help));
            }
        }
        http.listen = listen.into_iter().map(|found| found.value).collect();
    }
    table.finish();
    http
}

/// Does a listener there hear this host only?
pub(crate) fn is_loopback(address: &std::net::SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn tls(table: &Table<'_>, setting: &Setting<'_>) -> Option<HttpTls> {
    let file = |name: &'static str| -> Option<PathBuf> {
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
    let (certificate, key, client_ca) = (file("certificate"), file("key"), file("client_ca"));
    let loopback = table.flag("loopback").unwrap_or(false);
    let (one, other) = (table.has("certificate"), table.has("key"));
    if (one || table.has("client_ca")) && !other {
        table.missing("key");
    }
    if (other || table.has("client_ca")) && !one {
        table.missing("certificate");
    }
    table.finish();
    Some(HttpTls { certificate: certificate?, key: key?, client_ca, loopback })
}

fn limits(table: &Table<'_>) -> HttpLimits {
    let mut limits = HttpLimits::default();
    let whole = |name: &'static str, most: u32, least: u32| -> Option<usize> {
        let found = table.whole(name, least..=most)?;
        usize::try_from(found.value).ok()
    };
    if let Some(connections) = whole("connections", 100_000, 16) {
        limits.connections = connections;
    }
    // What waits or follows never has all connections: an eighth is left for others.
    limits.waiting = limits.connections / 4 * 3;
    limits.streams = limits.connections / 8;
    let most = |part: usize| u32::try_from(part).unwrap_or(u32::MAX);
    let (waits, streams) = (most(limits.waiting), most(limits.streams));
    for (name, most, least, place) in [
        ("connections_per_address", 100_000, 1, &mut limits.connections_per_address),
        ("waiting", waits, 1, &mut limits.waiting),
        ("streams", streams, 1, &mut limits.streams),
        ("header_bytes", 1 << 20, 8192, &mut limits.header_bytes),
    ] {
        *place = whole(name, most, least).unwrap_or(*place);
    }
    if let Some(requests) = table.whole("requests_per_second", 1..=1_000_000) {
        limits.requests_per_second = requests.value;
    }
    let (short, minute) = (Duration::from_millis(100), Duration::from_secs(60));
    for (name, least, most, place) in [
        ("header", short, minute * 5, &mut limits.header),
        ("body", short, minute * 10, &mut limits.body),
        ("stall", short, minute * 10, &mut limits.stall),
        ("idle", Duration::from_secs(1), minute * 60, &mut limits.idle),
    ] {
        if let Some(found) = table.duration(name, least..=most) {
            *place = found.value;
        }
    }
    table.finish();
    limits
}
