//! What templates can ask: the catalog at one moment, seen from one host.
//!
//! One `now` holds for a whole render. Which masters a render was told is noted, since the file
//! then has to change when one of them stops being named. Names that would break a line (spaces,
//! control characters) are left out and said, not escaped: anybody who may register a node could
//! otherwise write lines of their own into a hosts file. Nothing here depends on anything but
//! the catalog, the host and `now`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use sengu_core::catalog::{Catalog, Named, ServiceView};
use sengu_core::consul::record::{ServiceRecord, Status, key};
use sengu_core::consul::registry::Failing;
use sengu_core::kv::Revision;
use sengu_core::name::{InstanceName, ServiceName};
use sengu_core::record::{Health, InstanceRecord};
use sengu_core::time::Time;
use serde::Serialize;

use super::RenderContext;
use super::order::Order;
use super::render::KeptServices;

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
    // What templates ask for most stands first: fields are looked for from the front.
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) host: String,
    pub(crate) instance: String,
    /// Both, with brackets where a port could not be told from the address.
    pub(crate) endpoint: String,
    pub(crate) tags: Vec<String>,
    pub(crate) status: Status,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) meta: BTreeMap<String, String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// `managed`: sengu knows its instances; `registered`: a client registered it.
    pub(crate) kind: &'static str,
    pub(crate) master: Option<Server>,
    pub(crate) replicas: Vec<Server>,
    /// Those of `service(name=…)`: of a registered one, those without a critical check.
    pub(crate) servers: Vec<Server>,
}

/// An entry of the key-value store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Pair {
    /// What follows the prefix.
    pub(crate) key: String,
    /// The whole key.
    pub(crate) path: String,
    pub(crate) value: String,
}

/// Which servers of a service are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Choice {
    /// Those that have this tag.
    pub(crate) tag: Option<String>,
    /// Those that stand so.
    pub(crate) standing: Standing,
    /// This host's come first.
    pub(crate) near: Option<String>,
    pub(crate) order: Order,
}

/// How servers may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// Passing or warning; of a managed service its named master and its replicas in step.
    #[default]
    Usable,
    /// Just so.
    Just(Status),
    /// In any way.
    Any,
}

impl Standing {
    fn takes(self, status: Status) -> bool {
        match self {
            Self::Usable => status < Status::Critical,
            Self::Just(wanted) => status == wanted,
            Self::Any => true,
        }
    }
}

impl FromStr for Standing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, Status::parse(text)) {
            ("usable", _) => Ok(Self::Usable),
            ("any", _) => Ok(Self::Any),
            (_, Some(status)) => Ok(Self::Just(status)),
            (_, None) => Err(format!(
                "status {text:?} is unknown: \"usable\", \"passing\", \"warning\", \
                 \"critical\" or \"any\""
            )),
        }
    }
}

/// The catalog at one moment.
#[derive(Debug)]
pub(crate) struct Scene {
    catalog: Arc<Catalog>,
    now: Time,
    host: String,
    standing: OnceLock<Failing>,
    said: Mutex<Said>,
    kept: KeptServices,
}

/// What a render was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// The masters.
    pub(crate) masters: Masters,
    /// What was left out, and why.
    pub(crate) left_out: BTreeSet<String>,
    /// How many hosts and servers, each time that they were asked for.
    pub(crate) records: usize,
    /// Was the key-value store asked?
    pub(crate) keys: bool,
}

impl Scene {
    /// A catalog as of `now`, seen from a host.
    pub(crate) fn new(catalog: Arc<Catalog>, now: Time, context: &RenderContext) -> Self {
        let host = context.host.to_string();
        let (standing, said, kept) = Default::default();
        Self { catalog, now, host, standing, said, kept }
    }

    /// The same, with what the template was told last.
    pub(crate) fn with(self, kept: &KeptServices) -> Self {
        Self { kept: Arc::clone(kept), ..self }
    }

    /// What the template was told last.
    pub(crate) fn kept(&self) -> &KeptServices {
        &self.kept
    }

    /// This host.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What was told so far.
    pub(crate) fn said(&self) -> Said {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("nothing panics while it holds this")
    }

    fn told<T>(&self, list: Vec<T>) -> Vec<T> {
        self.lock().records += list.len();
        list
    }

    /// All hosts.
    pub(crate) fn hosts(&self, order: Order) -> Vec<Host> {
        let nodes = self.catalog.registry().nodes().map(|kept| &kept.record);
        let mut hosts: Vec<Host> = nodes
            .filter(|node| self.clean("host", &node.name))
            .map(|node| Host { name: node.name.to_lowercase(), address: node.address })
            .collect();
        order.sort(&self.host, &mut hosts, |host| (host.name.clone(), host.address.to_string()));
        self.told(hosts)
    }

    /// All managed services by name.
    pub(crate) fn managed_services(&self, order: Order) -> Vec<Service> {
        let managed = self.catalog.services().filter(|(_, view)| !view.instances.is_empty());
        let choice = Choice { order, ..Choice::default() };
        let services: Vec<Service> = managed
            .map(|(name, view)| Service {
                name: name.to_string(),
                kind: "managed",
                master: self.master_of(name),
                replicas: self.replicas_of(view, order),
                servers: self.managed_servers(name, view, &choice),
            })
            .collect();
        self.lock().records += services.iter().map(|one| one.servers.len()).sum::<usize>();
        services
    }

    /// The names of all registered services with a mark that changes when one of their servers
    /// does, or how it stands. A name that is managed, or cannot stand in a file, is not there.
    pub(crate) fn registered_services(&self) -> Vec<(Arc<str>, u64)> {
        let registry = self.catalog.registry();
        let standing = self.standing.get_or_init(|| registry.standing());
        let mut found: Vec<(Arc<str>, u64)> = Vec::new();
        for (name, kept) in registry.by_name() {
            // An address of its host may change with that.
            let of_host = kept.record.address.is_none().then(|| registry.node(&kept.record.node));
            let host = of_host.flatten().map_or(0, |node| node.modified);
            let status = standing.worst(&kept.record) as u64;
            let seed = match found.last() {
                Some((last, mark)) if last == name => *mark,
                Some(_) | None => {
                    found.push((Arc::clone(name), 0));
                    0
                }
            };
            if let Some((_, mark)) = found.last_mut() {
                *mark = mixed(seed, [kept.modified, host, status]);
            }
        }
        let managed = self.catalog.services().filter(|(_, view)| !view.instances.is_empty());
        let managed: BTreeSet<&str> = managed.map(|(name, _)| name.as_str()).collect();
        found.retain(|(name, _)| !managed.contains(&**name) && self.clean("service", name));
        found
    }

    /// One registered service, and whether all of it could be told.
    pub(crate) fn registered_service(&self, name: &str, order: Order) -> (Service, bool) {
        let before = self.lock().left_out.len();
        let choice = Choice { order, ..Choice::default() };
        let servers = self.registered_servers(name, &choice);
        let mut said = self.lock();
        said.records += servers.len();
        let whole = said.left_out.len() == before && before < LEFT_OUT_KEPT;
        let (master, replicas) = (None, Vec::new());
        (Service { name: name.to_owned(), kind: "registered", master, replicas, servers }, whole)
    }

    /// So many servers were told again.
    pub(crate) fn told_again(&self, servers: usize) {
        self.lock().records += servers;
    }

    /// The servers of one service.
    pub(crate) fn service(&self, name: &str, choice: &Choice) -> Vec<Server> {
        let servers = match self.managed(name) {
            Some((name, view)) => self.managed_servers(&name, view, choice),
            None => self.registered_servers(name, choice),
        };
        self.told(servers)
    }

    /// The one master that is named now.
    pub(crate) fn master(&self, name: &str) -> Option<Server> {
        let (name, _) = self.managed(name)?;
        let master = self.master_of(&name);
        self.lock().records += usize::from(master.is_some());
        master
    }

    /// The copies in step with it.
    pub(crate) fn replicas(&self, name: &str, order: Order) -> Vec<Server> {
        let replicas =
            self.managed(name).map_or_else(Vec::new, |(_, view)| self.replicas_of(view, order));
        self.told(replicas)
    }

    /// A value of the key-value store.
    ///
    /// # Errors
    /// It is no text.
    pub(crate) fn key(&self, name: &str) -> Result<Option<String>, String> {
        self.lock().keys = true;
        let Some(entry) = self.catalog.get(&key::kv(name)) else { return Ok(None) };
        match str::from_utf8(&entry.value) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(format!("the value of key {name:?} is no text")),
        }
    }

    /// The values under a prefix, by key; those that are no text are left out.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<Pair> {
        self.lock().keys = true;
        let whole = key::kv(prefix);
        let mut pairs = Vec::new();
        for entry in self.catalog.range(&whole) {
            let path = entry.key.strip_prefix("kv/").unwrap_or(&entry.key);
            match str::from_utf8(&entry.value) {
                Ok(value) => pairs.push(Pair {
                    key: path[prefix.len()..].trim_start_matches('/').to_owned(),
                    path: path.to_owned(),
                    value: value.to_owned(),
                }),
                Err(_) => self.leave_out(format!("key {path:?}: its value is no text")),
            }
        }
        pairs
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
                self.lock().masters.insert(service.clone(), (name.clone(), record.address));
                Some(server(name, record, &["master"]))
            }
        }
    }

    fn replicas_of(&self, view: &ServiceView, order: Order) -> Vec<Server> {
        let mut servers: Vec<Server> =
            view.replicas().map(|(name, record)| server(name, record, &["replica"])).collect();
        self.sort(&mut servers, order, None);
        servers
    }

    /// The named master and the replicas in step; those that stand otherwise only if asked for,
    /// and without a tag.
    fn managed_servers(
        &self,
        name: &ServiceName,
        view: &ServiceView,
        choice: &Choice,
    ) -> Vec<Server> {
        let mut servers = self.replicas_of(view, choice.order);
        servers.extend(self.master_of(name));
        if choice.standing != Standing::Usable {
            let named: BTreeSet<String> = servers.iter().map(|one| one.instance.clone()).collect();
            let rest = view.instances.iter().filter(|(name, _)| !named.contains(name.as_str()));
            servers.extend(rest.map(|(name, at)| server(name, &at.record, &[])));
            servers.retain(|server| choice.standing.takes(server.status));
        }
        let tag = choice.tag.as_deref().map(|tag| match tag {
            "primary" => "master",
            "slave" => "replica",
            other => other,
        });
        servers.retain(|server| tag.is_none_or(|tag| server.tags.iter().any(|have| have == tag)));
        self.sort(&mut servers, choice.order, choice.near.as_deref());
        servers
    }

    fn sort(&self, servers: &mut [Server], order: Order, near: Option<&str>) {
        if servers.len() < 2 {
            return;
        }
        order
            .sort(&self.host, servers, |server| (server.instance.clone(), server.endpoint.clone()));
        if let Some(near) = near {
            let near = if near == "_agent" { self.host.as_str() } else { near };
            // A stable sort: the order holds among the near and among the rest.
            servers.sort_by_key(|server| server.host != near);
        }
    }

    fn registered_servers(&self, name: &str, choice: &Choice) -> Vec<Server> {
        let registry = self.catalog.registry();
        let standing = self.standing.get_or_init(|| registry.standing());
        let mut servers: Vec<Server> = registry
            .named(name)
            .map(|kept| &kept.record)
            .filter(|entry| {
                choice.tag.as_ref().is_none_or(|tag| entry.tags.contains(tag))
                    && self.clean("host", &entry.node)
                    && self.clean("instance", &entry.id)
            })
            .filter_map(|entry| {
                let status = standing.worst(entry);
                choice.standing.takes(status).then_some(())?;
                let address = self.address_of(entry)?;
                let tags = entry.tags.iter().filter(|tag| self.clean("tag", tag));
                let meta = entry.meta.iter().filter(|(name, value)| {
                    self.clean("metadata", name) && !value.contains(char::is_control)
                });
                Some(Server {
                    instance: entry.id.clone(),
                    host: entry.node.to_lowercase(),
                    address,
                    port: entry.port,
                    endpoint: SocketAddr::new(address, entry.port).to_string(),
                    tags: tags.cloned().collect(),
                    status,
                    meta: meta.map(|(name, value)| (name.clone(), value.clone())).collect(),
                })
            })
            .collect();
        self.sort(&mut servers, choice.order, choice.near.as_deref());
        servers
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
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'"' && b != b'\\');
        if !clean {
            self.leave_out(format!("{kind} {text:?}: its name cannot stand in a file"));
        }
        clean
    }

    fn leave_out(&self, text: String) {
        let mut said = self.lock();
        if said.left_out.len() < LEFT_OUT_KEPT {
            said.left_out.insert(text.chars().take(200).collect());
        }
    }
}

fn server(name: &InstanceName, record: &InstanceRecord, tags: &[&str]) -> Server {
    Server {
        instance: name.to_string(),
        host: record.host.to_string(),
        address: record.address.ip(),
        port: record.address.port(),
        endpoint: record.address.to_string(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        status: match record.health {
            Health::Up => Status::Passing,
            Health::Troubled(_) => Status::Warning,
            Health::Silent(_) | Health::Exited => Status::Critical,
        },
        meta: BTreeMap::new(),
    }
}

/// Mixes numbers into a mark.
fn mixed(seed: u64, numbers: [u64; 3]) -> u64 {
    numbers.into_iter().fold(seed, |mark, number| {
        let mark = (mark ^ number).wrapping_mul(0x9fb2_1c65_1e98_df25).wrapping_add(1);
        mark ^ (mark >> 32)
    })
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
    catalog.registry().nodes_count()
        + catalog.registry().services_count()
        + catalog.services().filter(|(_, view)| !view.instances.is_empty()).count()
}

/// Changes when something changes that a template can ask, and not with each beat; with `keys`,
/// when an entry of the key-value store does, too.
pub(crate) fn fingerprint(catalog: &Catalog, keys: bool) -> Revision {
    let kinds = ["nodes", "services", "checks", "master", "instances", "requests"];
    let kinds = kinds.into_iter().chain(keys.then_some("kv"));
    kinds.map(|kind| catalog.changed(kind)).max().unwrap_or_default()
}
