//! Checks: probes of an instance, the files that combine them, and what runs them.
//!
//! A probe looks at one thing and judges it; one file each, listed in [`KINDS`]. A check is a
//! TOML file that names probes ([`Definition`]); [`Checks`] runs each check for each own
//! instance and keeps the last word. Probes about the database read the [`Board`]: no check
//! ever opens a second connection to it, but for one that is told to write.
//!
//! A probe never waits longer than its scene allows, and never takes a failure to look for a
//! good sign: what it cannot see is unknown.

mod alias;
mod beats;
mod consul;
mod definition;
mod dns;
#[cfg(test)]
mod fixture;
mod folder;
mod folders;
pub(crate) mod http;
mod keys;
mod mysql;
mod mysql_write;
mod placeholder;
mod problem;
mod process;
mod redis;
mod registered;
mod report;
mod runner;
mod script;
mod tcp;
mod ttl;
pub mod verdict;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sengu_core::health::Judged;
use sengu_core::name::{HostName, InstanceId};
use sengu_core::policy::{DatabaseKind, Failover};
use sengu_core::time::Time;

use crate::board::{Board, Seen};
use crate::config::{Config, Credentials, TlsConfig};
use crate::view::View;
use keys::Keys;

pub use beats::Beats;
pub use definition::{Definition, parse};
pub use folder::load;
pub use folders::Folders;
pub use problem::Problem;
pub use registered::{Registered, Scripts};
pub use report::{CheckReport, Of, ProbeReport};
pub use runner::{Checks, Sources};

/// All kinds of probes, by the word in `probe = "…"`.
const KINDS: &[Kind] = &[
    alias::KIND,
    dns::KIND,
    http::KIND,
    mysql::KIND,
    mysql_write::KIND,
    process::KIND,
    redis::KIND,
    script::KIND,
    tcp::KIND,
    ttl::KIND,
];

/// A kind of probe.
struct Kind {
    /// The word in `probe = "…"`.
    name: &'static str,
    /// Reads the probe's own keys; notes what is wrong with them.
    read: fn(&mut Keys<'_>) -> Option<Arc<dyn Probe>>,
}

/// Looks at one thing of an instance and judges it.
#[async_trait]
pub trait Probe: fmt::Debug + Send + Sync + 'static {
    /// The word in `probe = "…"`.
    fn name(&self) -> &'static str;

    /// The judgement from the board alone, for probes that ask nobody: so that an event is
    /// judged when it happens, not at the next interval.
    fn glance(&self, _scene: &Scene<'_>) -> Option<Judged> {
        None
    }

    /// Looks, for at most the scene's timeout, and judges.
    async fn look(&self, scene: &Scene<'_>) -> Judged;
}

/// What a probe is given.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// What is looked at.
    pub target: &'a Target,
    /// What all checks of this agent share.
    pub setup: &'a Setup,
    /// The last look at each own instance.
    pub board: &'a Board,
    /// The newest catalog.
    pub view: &'a View,
    /// What was told from outside.
    pub beats: &'a Beats,
    /// How often the check runs.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// When the run began.
    pub now: Time,
}

/// An own instance that checks look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub id: InstanceId,
    /// Its database.
    pub kind: DatabaseKind,
    /// Where clients reach it.
    pub address: SocketAddr,
    /// How to log in, for the one probe that asks the database itself.
    pub credentials: Option<Credentials>,
    /// TLS towards it, if wanted.
    pub tls: Option<TlsConfig>,
    /// Who moves its service's mastership.
    pub failover: Failover,
    /// How often the agent looks at it.
    pub interval: Duration,
    /// How long such a look may take.
    pub timeout: Duration,
}

/// What all checks of an agent share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// This host.
    pub host: HostName,
    /// Its datacenter.
    pub datacenter: String,
    /// The domain that completes names.
    pub domain: String,
    /// The DNS servers asked by default: the agent's own.
    pub resolvers: Vec<SocketAddr>,
}

impl Target {
    /// All own instances of a configuration.
    #[must_use]
    pub fn all(config: &Config) -> Vec<Self> {
        let mut targets = Vec::new();
        for (service, own) in &config.services {
            targets.extend(own.instances.iter().map(|(instance, instance_config)| Self {
                id: InstanceId { service: service.clone(), instance: instance.clone() },
                kind: own.kind,
                address: instance_config.address,
                credentials: own.credentials.clone(),
                tls: own.tls.clone(),
                failover: own.policy.failover,
                interval: own.interval,
                timeout: own.timeout,
            }));
        }
        targets
    }

    /// So many intervals and a timeout, by the slower of a check and the agent's own looks. A
    /// look is fresh for two intervals; a status outlives its last result by three.
    fn patience(&self, intervals: u32, interval: Duration, timeout: Duration) -> Duration {
        self.interval.max(interval) * intervals + self.timeout.max(timeout)
    }
}

impl Setup {
    /// As a configuration has it.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            host: config.host.clone(),
            datacenter: config.datacenter.clone(),
            domain: config.dns.domains.first().cloned().unwrap_or_else(|| "sengu".into()),
            resolvers: config.dns.listen.iter().copied().map(reachable).collect(),
        }
    }
}

/// Where to reach a listener on this host: one that listens everywhere is asked over loopback.
pub(crate) fn reachable(mut listener: SocketAddr) -> SocketAddr {
    match listener.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => listener.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => listener.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    listener
}

impl Scene<'_> {
    /// The board's look at the target, if it is fresh: at most two intervals and a timeout old,
    /// by the slower of the check and the agent's own looks. Else unknown, as old as that look.
    ///
    /// # Errors
    /// The unknown judgement.
    fn seen(&self) -> Result<Seen, Judged> {
        let Some(seen) = self.board.get(&self.target.id) else {
            return Err(Judged::unknown(self.now, "the instance was not looked at yet"));
        };
        let age = self.now.since(seen.sent);
        if age <= self.target.patience(2, self.interval, self.timeout) {
            return Ok(seen);
        }
        let words = format!("no fresh look: the last one is {:.1} s old", age.as_secs_f64());
        Err(Judged::unknown(seen.sent, words))
    }
}

/// Cuts a text to so many bytes, at a character, and says that it did.
fn clip(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} …", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::fixture::Stage;
    use super::*;

    #[test]
    fn a_look_is_fresh_for_two_intervals_and_a_timeout() {
        let stage = Stage::default();
        let words = |after: u64| {
            let scene = stage.scene(after);
            scene.seen().map(|_| ()).map_err(|judged| (judged.output, judged.seen))
        };
        let never = words(0).expect_err("nobody looked");
        assert_eq!(never.0, "the instance was not looked at yet");
        stage.put(1000, Stage::master());
        assert_eq!(words(3500), Ok(()));
        let (output, seen) = words(3501).expect_err("older than 2 × 1 s + 500 ms");
        assert_eq!(output, "no fresh look: the last one is 2.5 s old");
        assert_eq!(seen, Stage::time(1000), "as old as that look");
    }

    #[test]
    fn a_slow_look_is_given_its_own_time() {
        let mut stage = Stage::default();
        stage.target.interval = Duration::from_secs(10);
        stage.put(0, Stage::master());
        assert!(stage.scene(20_500).seen().is_ok());
        assert!(stage.scene(20_501).seen().is_err());
        let expiry = stage.target.patience(3, Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(expiry, Duration::from_secs(32));
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_over_loopback() {
        for (listener, asked) in [
            ("0.0.0.0:8600", "127.0.0.1:8600"),
            ("[::]:8600", "[::1]:8600"),
            ("10.0.0.1:53", "10.0.0.1:53"),
        ] {
            let listener = listener.parse().expect("an address");
            assert_eq!(reachable(listener).to_string(), asked);
        }
    }

    #[test]
    fn kinds_are_listed_by_name_once() {
        assert!(KINDS.is_sorted_by(|left, right| left.name < right.name));
    }
}
