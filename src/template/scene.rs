//! What templates can ask: the catalog at one moment, seen from one host.
//!
//! One `now` holds for a whole render. Which masters a render was told is noted, since the file
//! then has to change when one of them stops being named. Names that would break a line (spaces,
//! control characters) are left out and said, not escaped: anybody who may register a node could
//! otherwise write lines of their own into a hosts file. Nothing here depends on anything but
//! the catalog, the host and `now`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use sengu_core::catalog::{Catalog, Named, ServiceView};
use sengu_core::consul::record::ServiceRecord;
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::record::InstanceRecord;
use sengu_core::time::Time;
use serde::Serialize;

use super::RenderContext;
use super::order::{Order, hash};

/// Who was told to be master of what.
pub(crate) type Masters = BTreeMap<ServiceName, (InstanceName, SocketAddr)>;

/// The longest list of left-out names that is kept, for the status.
const LEFT_OUT_KEPT: usize = 20;

/// A host that the catalog knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
}

/// A place where a service listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Server {
    pub(crate) instance: String,
    pub(crate) host: String,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) tags: Vec<String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// `managed`: sengu knows its instances; `registered`: a client registered it.
    pub(crate) kind: &'static str,
    pub(crate) master: Option<Server>,
    pub(crate) replicas: Vec<Server>,
}

/// The catalog at one moment.
#[derive(Debug)]
pub(crate) struct Scene {
    catalog: Arc<Catalog>,
    now: Time,
    host: String,
    said: Mutex<Said>,
}

/// What a render was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// The masters.
    pub(crate) masters: Masters,
    /// What was left out, and why.
    pub(crate) left_out: BTreeSet<String>,
}

impl Scene {
    /// A catalog as of `now`, seen from a host.
    pub(crate) fn new(catalog: Arc<Catalog>, now: Time, context: &RenderContext) -> Self {
        Self { catalog, now, host: context.host.to_string(), said: Mutex::default() }
    }

    /// What was told so far.
    pub(crate) fn said(&self) -> Said {
        self.said.lock().expect("nothing panics while it holds this").clone()
    }

    /// All hosts.
    pub(crate) fn hosts(&self, order: Order) -> Vec<Host> {
        let nodes = self.catalog.registry().nodes().map(|kept| &kept.record);
        let mut hosts: Vec<Host> = nodes
            .filter(|node| self.clean("host", &node.name))
            .map(|node| Host { name: node.name.to_lowercase(), address: node.address })
            .collect();
        order.sort(&self.host, &mut hosts, |host| (host.name.clone(), host.address.to_string()));
        hosts
    }

    /// All services by name, managed ones first.
    pub(crate) fn services(&self, order: Order) -> Vec<Service> {
        let managed = self.catalog.services().filter(|(_, view)| !view.instances.is_empty());
        let mut services: Vec<Service> = managed
            .map(|(name, view)| Service {
                name: name.to_string(),
                kind: "managed",
                master: self.master_of(name),
                replicas: self.replicas_of(view, order),
            })
            .collect();
        let names: BTreeSet<String> = self
            .registered()
            .map(|entry| entry.name.to_lowercase())
            .filter(|name| self.clean("service", name))
            .filter(|name| !services.iter().any(|service| service.name == *name))
            .collect();
        services.extend(names.into_iter().map(|name| Service {
            name,
            kind: "registered",
            master: None,
            replicas: Vec::new(),
        }));
        services
    }

    /// The servers of one service: of a managed one its master and replicas, of a registered one
    /// all whose checks are not critical. With a tag, those that have it.
    pub(crate) fn service(&self, name: &str, tag: Option<&str>, order: Order) -> Vec<Server> {
        let mut servers = match self.managed(name) {
            Some((name, view)) => {
                let mut servers = self.replicas_of(view, order);
                servers.extend(self.master_of(&name));
                servers
            }
            None => self.registered_servers(name),
        };
        let tag = tag.map(|tag| match tag {
            "primary" => "master",
            "slave" => "replica",
            other => other,
        });
        servers.retain(|server| tag.is_none_or(|tag| server.tags.iter().any(|have| have == tag)));
        self.sort(&mut servers, order);
        servers
    }

    /// The one master that is named now.
    pub(crate) fn master(&self, name: &str) -> Option<Server> {
        let (name, _) = self.managed(name)?;
        self.master_of(&name)
    }

    /// The copies in step with it.
    pub(crate) fn replicas(&self, name: &str, order: Order) -> Vec<Server> {
        self.managed(name).map_or_else(Vec::new, |(_, view)| self.replicas_of(view, order))
    }

    fn managed(&self, name: &str) -> Option<(ServiceName, &ServiceView)> {
        let name = ServiceName::new(name).ok()?;
        let view = self.catalog.service(&name).filter(|view| !view.instances.is_empty())?;
        Some((name, view.as_ref()))
    }

    fn master_of(&self, service: &ServiceName) -> Option<Server> {
        match self.catalog.master(service, self.now) {
            Named::Withdrawn(_) => None,
            Named::Master(name, record) => {
                let told = (name.clone(), record.address);
                let mut said = self.said.lock().expect("nothing panics while it holds this");
                said.masters.insert(service.clone(), told);
                Some(server(name, record, "master"))
            }
        }
    }

    fn replicas_of(&self, view: &ServiceView, order: Order) -> Vec<Server> {
        let mut servers: Vec<Server> =
            view.replicas().map(|(name, record)| server(name, record, "replica")).collect();
        self.sort(&mut servers, order);
        servers
    }

    fn sort(&self, servers: &mut [Server], order: Order) {
        order.sort(&self.host, servers, |server| {
            let address = SocketAddr::new(server.address, server.port).to_string();
            (server.instance.clone(), address)
        });
    }

    fn registered(&self) -> impl Iterator<Item = &ServiceRecord> {
        self.catalog.registry().services().map(|kept| &kept.record)
    }

    fn registered_servers(&self, name: &str) -> Vec<Server> {
        let failing = self.catalog.registry().failing();
        self.registered()
            .filter(|entry| entry.name.eq_ignore_ascii_case(name) && !failing.hits(entry))
            .filter(|entry| self.clean("host", &entry.node) && self.clean("instance", &entry.id))
            .filter_map(|entry| {
                let address = self.address_of(entry)?;
                let tags = entry.tags.iter().filter(|tag| self.clean("tag", tag));
                Some(Server {
                    instance: entry.id.clone(),
                    host: entry.node.to_lowercase(),
                    address,
                    port: entry.port,
                    tags: tags.cloned().collect(),
                })
            })
            .collect()
    }

    fn address_of(&self, entry: &ServiceRecord) -> Option<IpAddr> {
        let address = self.catalog.registry().address(entry);
        if let Err(why) = &address {
            self.leave_out(format!("{:?} of {:?}: {why}", entry.id, entry.node));
        }
        address.ok()
    }

    fn clean(&self, kind: &str, text: &str) -> bool {
        let clean = (1..=253).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_graphic() && c != '#' && c != '"' && c != '\\');
        if !clean {
            self.leave_out(format!("{kind} {text:?}: its name cannot stand in a file"));
        }
        clean
    }

    fn leave_out(&self, text: String) {
        let mut said = self.said.lock().expect("nothing panics while it holds this");
        if said.left_out.len() < LEFT_OUT_KEPT {
            said.left_out.insert(text.chars().take(200).collect());
        }
    }
}

fn server(name: &InstanceName, record: &InstanceRecord, tag: &str) -> Server {
    Server {
        instance: name.to_string(),
        host: record.host.to_string(),
        address: record.address.ip(),
        port: record.address.port(),
        tags: vec![tag.to_owned()],
    }
}

/// Is one of these no longer the one to name?
pub(crate) fn lost(masters: &Masters, catalog: &Catalog, now: Time) -> bool {
    masters.iter().any(|(service, (instance, address))| match catalog.master(service, now) {
        Named::Master(name, record) => name != instance || record.address != *address,
        Named::Withdrawn(_) => true,
    })
}

/// All masters that are named now.
pub(crate) fn masters(catalog: &Catalog, now: Time) -> Masters {
    let named = catalog.services().filter_map(|(service, _)| match catalog.master(service, now) {
        Named::Master(name, record) => Some((service.clone(), (name.clone(), record.address))),
        Named::Withdrawn(_) => None,
    });
    named.collect()
}

/// The earliest time after `now` at which one of these stops being named, if nothing new comes.
pub(crate) fn expiry(masters: &Masters, catalog: &Catalog, now: Time) -> Option<Time> {
    masters
        .keys()
        .filter_map(|service| catalog.service(service))
        .filter_map(|view| view.kept_until())
        .chain((!masters.is_empty()).then_some(catalog.valid_until))
        .filter(|at| *at > now)
        .min()
}

/// Hosts and services that the catalog knows.
pub(crate) fn entries(catalog: &Catalog) -> usize {
    catalog.registry().nodes().count()
        + catalog.registry().services().count()
        + catalog.services().filter(|(_, view)| !view.instances.is_empty()).count()
}

/// Changes when something changes that a template can ask, and not with each beat.
pub(crate) fn fingerprint(catalog: &Catalog) -> u64 {
    let mut sum = 0_u64;
    let mut take = |key: &str, revision: u64| {
        sum = hash(&[&sum.to_le_bytes(), key.as_bytes(), &revision.to_le_bytes()]);
    };
    for prefix in ["nodes/", "services/", "checks/"] {
        for entry in catalog.range(prefix) {
            take(&entry.key, entry.modified);
        }
    }
    for (service, view) in catalog.services() {
        take(service.as_str(), view.master.as_ref().map_or(0, |at| at.revision));
        for (instance, at) in &view.instances {
            take(instance.as_str(), at.revision);
        }
        for (id, at) in &view.requests {
            take(id, at.revision);
        }
    }
    sum
}
