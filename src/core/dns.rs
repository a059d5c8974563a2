//! What DNS says: one question and one picture in, one typed answer out.
//!
//! Names are Consul's: `[tag.]NAME.service[.dc].DOMAIN`, `_NAME._TAG.service…`,
//! `HOST.node…`, `HEX.addr…`, and reverse names of addresses that the catalog knows. The master
//! of a service is whoever [`Catalog::master`] names at the `now` given, so an old picture
//! withdraws it without being told. There is no wire format here, no size limit and no
//! recursion: the shell encodes, cuts to size and forwards. Randomness (the order of several
//! addresses) comes with the question, as a seed.

mod asked;
mod desk;
mod directory;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{Catalog, Picture};
use crate::time::Time;

use asked::Place;
use desk::Desk;
pub use directory::{Directory, Endpoint};

/// What the server was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    domains: Vec<Domain>,
    datacenter: String,
    ttl: u32,
}

/// One domain, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Domain {
    text: String,
    labels: Vec<String>,
}

impl Settings {
    /// `domains` as `sengu` or `sengu.example.org`, the first being the one that reverse names
    /// point into; `ttl` of positive answers, in whole seconds.
    #[must_use]
    pub fn new(domains: &[String], datacenter: &str, ttl: Duration) -> Self {
        let domains = domains
            .iter()
            .map(|domain| domain.trim_matches('.').to_ascii_lowercase())
            .filter(|domain| !domain.is_empty())
            .map(|text| Domain { labels: text.split('.').map(str::to_owned).collect(), text })
            .collect();
        let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        Self { domains, datacenter: datacenter.to_ascii_lowercase(), ttl }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name's labels, first one first, in any case.
    pub labels: Vec<String>,
    /// The type.
    pub kind: Kind,
    /// Random: decides the order of several addresses.
    pub seed: u64,
}

impl Question {
    /// From a name as people write it; a dot at its end is allowed.
    #[must_use]
    pub fn new(name: &str, kind: Kind, seed: u64) -> Self {
        let name = name.trim_end_matches('.');
        let labels =
            if name.is_empty() { Vec::new() } else { name.split('.').map(str::to_owned).collect() };
        Self { labels, kind, seed }
    }
}

/// The types that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Address and port, RFC 2782.
    Srv,
    /// Text.
    Txt,
    /// Name of an address.
    Ptr,
    /// Start of authority.
    Soa,
    /// Name server.
    Ns,
    /// Everything there is.
    Any,
    /// A type of which there is never anything.
    Other,
}

impl Kind {
    fn wants(self, kind: Self) -> bool {
        self == kind || self == Self::Any
    }
}

/// What to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name is in our domains, or the reverse of an address that we know.
    Ours(Reply),
    /// The name is ours, and nothing was ever read: a server failure, never "no such name".
    Unknown,
    /// The name is not ours.
    Elsewhere,
}

/// An authoritative reply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// Does the name exist? `true` with no answers is NODATA, `false` is NXDOMAIN.
    pub exists: bool,
    /// The answers, in the order to send them.
    pub answers: Vec<Record>,
    /// The SOA where there are no answers.
    pub authority: Vec<Record>,
    /// Addresses of the names in the answers; may be left out.
    pub additional: Vec<Record>,
}

/// One resource record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub owner: Owner,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// Whose a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The name that was asked for, to be repeated in its own case.
    Asked,
    /// Another name, without a dot at its end.
    Name(String),
}

/// What a record says. Names are without a dot at their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Where a service listens.
    Srv {
        /// Always 1, as Consul's.
        priority: u16,
        /// Always 1: all alike.
        weight: u16,
        /// The port.
        port: u16,
        /// The name with the address.
        target: String,
    },
    /// One text; longer than 255 bytes it goes as several strings.
    Txt(String),
    /// The name of an address.
    Ptr(String),
    /// A name server.
    Ns(String),
    /// Start of authority.
    Soa {
        /// The domain's name server.
        server: String,
        /// Its keeper's mailbox.
        mailbox: String,
        /// The store's revision, its lower 32 bits.
        serial: u32,
        /// How long an absence may be kept, in seconds.
        minimum: u32,
    },
}

/// Answers one question from one picture, as of `now`.
#[must_use]
pub fn answer(picture: &Picture, now: Time, settings: &Settings, question: &Question) -> Answer {
    answer_with(picture, now, settings, question, &|catalog| Arc::new(Directory::of(catalog)))
}

/// As [`answer`], with a directory that the caller may have kept from an earlier question about
/// the same revision. It is asked for only where it is needed; questions about the address of a
/// managed service do without.
#[must_use]
pub fn answer_with(
    picture: &Picture,
    now: Time,
    settings: &Settings,
    question: &Question,
    directory: &dyn Fn(&Catalog) -> Arc<Directory>,
) -> Answer {
    let place = asked::place(settings, question);
    let catalog = match (&place, picture) {
        (Place::Elsewhere, _) | (Place::Reverse(_), Picture::Unknown) => return Answer::Elsewhere,
        (Place::Ours(..), Picture::Unknown) => return Answer::Unknown,
        (Place::Reverse(_) | Place::Ours(..), Picture::Known(catalog)) => catalog,
    };
    match place {
        Place::Elsewhere => Answer::Elsewhere,
        Place::Reverse(address) => reverse(address, settings, question, &directory(catalog))
            .map_or(Answer::Elsewhere, |answers| {
                Answer::Ours(Reply { exists: true, answers, ..Reply::default() })
            }),
        Place::Ours(domain, asked) => {
            let desk = Desk { settings, domain, question, catalog, now, directory };
            Answer::Ours(desk.reply(asked))
        }
    }
}

/// PTR records of an address that the catalog knows: its nodes, else its services.
fn reverse(
    address: IpAddr,
    settings: &Settings,
    question: &Question,
    directory: &Directory,
) -> Option<Vec<Record>> {
    let domain = &settings.domains.first()?.text;
    let nodes = directory.nodes_at(address).filter_map(|node| node_name(node, settings, domain));
    let mut names: Vec<String> = nodes.collect();
    if names.is_empty() {
        let dc = &settings.datacenter;
        names = directory
            .services_at(address)
            .map(|service| format!("{service}.service.{dc}.{domain}"))
            .collect();
    }
    if names.is_empty() {
        return None;
    }
    names.retain(|_| question.kind.wants(Kind::Ptr));
    Some(names.into_iter().map(|name| asked_for(settings.ttl, Data::Ptr(name))).collect())
}

/// A node's full name; `None` if its own name cannot stand in DNS without quoting.
fn node_name(node: &str, settings: &Settings, domain: &str) -> Option<String> {
    let clean = node.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    clean.then(|| format!("{node}.node.{}.{domain}", settings.datacenter))
}

fn address_data(address: IpAddr) -> (Kind, Data) {
    match address {
        IpAddr::V4(address) => (Kind::A, Data::A(address)),
        IpAddr::V6(address) => (Kind::Aaaa, Data::Aaaa(address)),
    }
}

fn asked_for(ttl: u32, data: Data) -> Record {
    Record { owner: Owner::Asked, ttl, data }
}
