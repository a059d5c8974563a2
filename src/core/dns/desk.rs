//! The replies about our own domains: what stands under each form of name.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::asked::Asked;
use super::{
    Data, Directory, Endpoint, Kind, Owner, Question, Record, Reply, Settings, address_data,
    asked_for, node_name,
};
use crate::catalog::{Catalog, Named, ServiceView};
use crate::name::ServiceName;
use crate::record::{InstanceRecord, NodeRecord};
use crate::time::Time;

/// No answer about an absence is held longer than this, in seconds: a withdrawn master is back
/// in the next answer.
const ABSENCE_TTL: u32 = 1;

/// Name servers named at the top of a domain, at most.
const NAME_SERVERS: usize = 3;

/// All that one answer about our own domains is made of.
pub(super) struct Desk<'a> {
    pub(super) settings: &'a Settings,
    pub(super) domain: &'a str,
    pub(super) question: &'a Question,
    pub(super) catalog: &'a Catalog,
    pub(super) now: Time,
    pub(super) directory: &'a dyn Fn(&Catalog) -> Arc<Directory>,
}

/// Endpoints of a name that exists, and how long they may be kept.
struct Found {
    endpoints: Vec<Endpoint>,
    ttl: u32,
}

impl Desk<'_> {
    /// Looks up what is asked; an SOA stands where there is no answer.
    pub(super) fn reply(&self, asked: Asked) -> Reply {
        let mut reply = match asked {
            Asked::Nothing => Reply::default(),
            Asked::Inner => Reply { exists: true, ..Reply::default() },
            Asked::Apex => self.apex(),
            Asked::NameServer => {
                let addresses = self.name_servers().into_iter().map(|node| node.address);
                self.addresses(addresses.collect(), self.settings.ttl)
            }
            Asked::Address(address) => self.addresses(vec![address], self.settings.ttl),
            Asked::Node(name) => self.node(&name),
            Asked::Service { name, tag } => self
                .service(&name, tag.as_deref())
                .map_or_else(Reply::default, |found| self.endpoints(found)),
        };
        if reply.answers.is_empty() {
            reply.authority.push(self.soa(Owner::Name(self.domain.to_owned())));
        }
        reply
    }

    fn absence_ttl(&self) -> u32 {
        self.settings.ttl.min(ABSENCE_TTL)
    }

    fn soa(&self, owner: Owner) -> Record {
        let minimum = self.absence_ttl();
        let server = format!("ns.{}", self.domain);
        let mailbox = format!("hostmaster.{}", self.domain);
        // Serial numbers are compared modulo 2^32 (RFC 1982), so the lower half is enough.
        let serial = u32::try_from(self.catalog.revision & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Record { owner, ttl: minimum, data: Data::Soa { server, mailbox, serial, minimum } }
    }

    fn apex(&self) -> Reply {
        let mut reply = Reply { exists: true, ..Reply::default() };
        if self.question.kind.wants(Kind::Soa) {
            reply.answers.push(self.soa(Owner::Asked));
        }
        if self.question.kind.wants(Kind::Ns) {
            for node in self.name_servers() {
                let Some(name) = node_name(&node.name, self.settings, self.domain) else {
                    continue;
                };
                reply.answers.push(asked_for(self.settings.ttl, Data::Ns(name.clone())));
                reply.additional.push(self.glue(&name, node.address, self.settings.ttl));
            }
            if reply.additional.is_empty() {
                let name = format!("ns.{}", self.domain);
                reply.answers.push(asked_for(self.settings.ttl, Data::Ns(name)));
            }
        }
        reply
    }

    fn name_servers(&self) -> Vec<NodeRecord> {
        (self.directory)(self.catalog).agents().take(NAME_SERVERS).cloned().collect()
    }

    fn glue(&self, name: &str, address: IpAddr, ttl: u32) -> Record {
        Record { owner: Owner::Name(name.to_owned()), ttl, data: address_data(address).1 }
    }

    fn addresses(&self, addresses: Vec<IpAddr>, ttl: u32) -> Reply {
        let mut seen = BTreeSet::new();
        let answers = addresses
            .into_iter()
            .filter(|address| seen.insert(*address))
            .map(address_data)
            .filter(|(kind, _)| self.question.kind.wants(*kind))
            .map(|(_, data)| asked_for(ttl, data))
            .collect();
        Reply { exists: true, answers, ..Reply::default() }
    }

    fn node(&self, name: &str) -> Reply {
        let directory = (self.directory)(self.catalog);
        let Some(node) = directory.node(name) else { return Reply::default() };
        let mut reply = self.addresses(vec![node.address], self.settings.ttl);
        if self.question.kind.wants(Kind::Txt) {
            let texts = node.meta.iter().map(|(key, value)| metadata(key, value));
            reply.answers.extend(texts.map(|text| asked_for(self.settings.ttl, Data::Txt(text))));
        }
        reply
    }

    /// Who stands under a service's name; `None` if the name does not exist.
    fn service(&self, name: &str, tag: Option<&str>) -> Option<Found> {
        if let Ok(name) = ServiceName::new(name)
            && let Some(view) = self.catalog.service(&name)
            && (view.master.is_some() || !view.instances.is_empty())
        {
            return self.managed(&name, view, tag);
        }
        let directory = (self.directory)(self.catalog);
        let endpoints: Vec<Endpoint> = directory
            .service(name)
            .iter()
            .filter(|endpoint| endpoint.healthy)
            .filter(|endpoint| {
                tag.is_none_or(|tag| endpoint.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
            })
            .cloned()
            .collect();
        // As Consul: a known service with nobody healthy is no name.
        (!endpoints.is_empty()).then_some(Found { endpoints, ttl: self.settings.ttl })
    }

    /// A service of sengu's own. Its bare name and its master's name exist whoever is named:
    /// "no such name" would, in a resolver's cache, stand for all names below too (RFC 8020).
    fn managed(&self, name: &ServiceName, view: &ServiceView, tag: Option<&str>) -> Option<Found> {
        let (master, replicas) = match tag {
            None => (true, true),
            Some("master" | "primary") => (true, false),
            Some("replica" | "slave") => (false, true),
            Some(_) => return None,
        };
        let mut found = Found { endpoints: Vec::new(), ttl: self.settings.ttl };
        if master && let Named::Master(_, record) = self.catalog.master(name, self.now) {
            found.endpoints.push(managed_endpoint(record));
            found.ttl = found.ttl.min(self.master_ttl(view));
        }
        if replicas {
            found.endpoints.extend(view.replicas().map(|(_, record)| managed_endpoint(record)));
        }
        (master || !found.endpoints.is_empty()).then_some(found)
    }

    /// How long the master may be named without another look, in whole seconds: no cache keeps
    /// a name that this agent itself would have withdrawn.
    fn master_ttl(&self, view: &ServiceView) -> u32 {
        let until = self.catalog.valid_until;
        let until = view.kept_until().map_or(until, |kept| kept.min(until));
        u32::try_from(until.since(self.now).as_secs()).unwrap_or(u32::MAX)
    }

    fn endpoints(&self, mut found: Found) -> Reply {
        shuffle(&mut found.endpoints, self.question.seed);
        let addresses = found.endpoints.iter().map(|endpoint| endpoint.address).collect();
        let mut reply = self.addresses(addresses, found.ttl);
        if !self.question.kind.wants(Kind::Srv) {
            return reply;
        }
        let directory = (self.directory)(self.catalog);
        let mut pairs = BTreeSet::new();
        let mut targets = BTreeSet::new();
        for endpoint in &found.endpoints {
            let target = self.target(endpoint, &directory);
            if pairs.insert((target.clone(), endpoint.port)) {
                let port = endpoint.port;
                let data = Data::Srv { priority: 1, weight: 1, port, target: target.clone() };
                reply.answers.push(asked_for(found.ttl, data));
            }
            if targets.insert(target.clone()) {
                reply.additional.push(self.glue(&target, endpoint.address, found.ttl));
            }
        }
        reply
    }

    /// The node's name where the service listens on the node's address; else a name that spells
    /// the address.
    fn target(&self, endpoint: &Endpoint, directory: &Directory) -> String {
        directory
            .node(&endpoint.node)
            .filter(|node| node.address == endpoint.address)
            .and_then(|node| node_name(&node.name, self.settings, self.domain))
            .unwrap_or_else(|| {
                let hex = match endpoint.address {
                    IpAddr::V4(address) => format!("{:08x}", address.to_bits()),
                    IpAddr::V6(address) => format!("{:032x}", address.to_bits()),
                };
                format!("{hex}.addr.{}.{}", self.settings.datacenter, self.domain)
            })
    }
}

fn managed_endpoint(record: &InstanceRecord) -> Endpoint {
    Endpoint {
        address: record.address.ip(),
        port: record.address.port(),
        tags: Vec::new(),
        node: record.host.as_str().to_owned(),
        healthy: true,
    }
}

/// `key=value` as RFC 1464 has it; only the value for keys that begin with `rfc1035-`.
fn metadata(key: &str, value: &str) -> String {
    if key.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("rfc1035-")) {
        return value.to_owned();
    }
    let mut text = String::with_capacity(key.len() + value.len() + 1);
    for letter in key.chars() {
        if matches!(letter, '`' | '=' | ' ' | '\t') {
            text.push('`');
        }
        text.push(letter);
    }
    text.push('=');
    text.push_str(&value.replace('`', "``"));
    text
}

/// The same order for the same seed (Fisher and Yates, numbers by splitmix64).
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    for last in (1..items.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let places = u64::try_from(last + 1).unwrap_or(u64::MAX);
        items.swap(last, usize::try_from(mixed % places).unwrap_or(0));
    }
}
