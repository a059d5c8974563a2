//! Checks as Consul's clients see them: the rows of `health/…`.
//!
//! Each host of an agent has `serfHealth`, from its beats; each managed instance has
//! `service:ID`, from what its agent last saw of it; a registered check stands as it was
//! registered, or as the agent that keeps it told last. Nothing is run here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Found;
use super::directory::{Directory, KINDS};
use super::record::{CheckRecord, Status};
use super::registry::Kept;
use super::row::{Entry, Node, Service};
use crate::kv::Revision;
use crate::record::{Health, InstanceRecord};

/// A row of `health/…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// Its node.
    pub node: String,
    /// Unique on its node.
    #[serde(rename = "CheckID")]
    pub check_id: String,
    /// For people.
    pub name: String,
    /// How it stands.
    pub status: Status,
    /// For people.
    pub notes: String,
    /// What it last said.
    pub output: String,
    /// The entry that it is about; empty: the node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// That entry's service.
    pub service_name: String,
    /// That entry's tags.
    pub service_tags: Vec<String>,
    /// What the agent does for it; empty: nothing.
    pub r#type: String,
    /// Always empty.
    pub interval: String,
    /// Always empty.
    pub timeout: String,
    /// Always 0.
    pub exposed_port: u16,
    /// Always empty.
    pub definition: BTreeMap<String, String>,
    /// The revision at which it came to be.
    pub create_index: Revision,
    /// The revision of its last change.
    pub modify_index: Revision,
}

impl Check {
    /// Is all well?
    #[must_use]
    pub fn passes(&self) -> bool {
        self.status == Status::Passing
    }

    fn of_node(node: &Node, id: &str, name: &str, status: Status, output: String) -> Self {
        Self {
            node: node.node.clone(),
            check_id: id.to_owned(),
            name: name.to_owned(),
            status,
            notes: String::new(),
            output,
            service_id: String::new(),
            service_name: String::new(),
            service_tags: Vec::new(),
            r#type: String::new(),
            interval: String::new(),
            timeout: String::new(),
            exposed_port: 0,
            definition: BTreeMap::new(),
            create_index: node.create_index,
            modify_index: node.modify_index,
        }
    }

    fn about(mut self, service: &Service) -> Self {
        self.service_id.clone_from(&service.id);
        self.service_name.clone_from(&service.service);
        self.service_tags.clone_from(&service.tags);
        self
    }

    /// The check of a managed instance. The one that is named as master passes: whoever decides
    /// whether it may be named has looked at the same health.
    pub(super) fn of_instance(
        node: &Node,
        service: &Service,
        record: &InstanceRecord,
        named: bool,
    ) -> Self {
        let role = match record.role {
            Some(role) => role.to_string(),
            None => "its role is not known yet".to_owned(),
        };
        let (status, output) = match &record.health {
            Health::Up => (Status::Passing, format!("up: {role}")),
            Health::Troubled(reason) if named => (Status::Passing, reason.clone()),
            Health::Troubled(reason) => (Status::Warning, reason.clone()),
            Health::Silent(reason) => (Status::Critical, reason.clone()),
            Health::Exited => (Status::Critical, "its process has exited".to_owned()),
        };
        let id = format!("service:{}", service.id);
        let name = format!("Service '{}' check", service.service);
        let mut check = Self::of_node(node, &id, &name, status, output).about(service);
        check.create_index = service.create_index;
        check.modify_index = service.modify_index;
        check
    }

    fn registered(node: &Node, kept: &Kept<CheckRecord>) -> Self {
        let (record, output) = (&kept.record, kept.record.output.clone());
        let mut check = Self::of_node(node, &record.id, &record.name, record.status, output);
        check.notes.clone_from(&record.notes);
        if let Some(definition) = &record.definition {
            check.r#type = definition.way.kind().to_owned();
        }
        check.create_index = kept.created;
        check.modify_index = kept.modified;
        check
    }
}

/// The checks of a node itself.
pub(super) fn node_checks(directory: &Directory<'_>, node: &Node) -> Vec<Check> {
    let mut checks = Vec::new();
    if node.agent {
        let (status, output) = match directory.gone(&node.node) {
            None => (Status::Passing, "Agent alive and reachable".to_owned()),
            Some(silent) => (
                Status::Critical,
                format!("no beat of this host came for {} s", silent.as_secs().max(1)),
            ),
        };
        checks.push(Check::of_node(node, "serfHealth", "Serf Health Status", status, output));
    }
    checks.extend(registered_checks(directory, node, None));
    checks
}

/// The checks of a registered entry itself.
pub(super) fn service_checks(
    directory: &Directory<'_>,
    node: &Node,
    service: &Service,
) -> Vec<Check> {
    let checks = registered_checks(directory, node, Some(&service.id));
    checks.map(|check| check.about(service)).collect()
}

fn registered_checks<'a>(
    directory: &Directory<'a>,
    node: &'a Node,
    service_id: Option<&'a str>,
) -> impl Iterator<Item = Check> + 'a {
    let checks = directory.catalog.registry().checks_on(&node.node);
    let about = checks.filter(move |kept| kept.record.service_id.as_deref() == service_id);
    about.map(|kept| Check::registered(node, kept))
}

impl Directory<'_> {
    /// `health/checks/SERVICE`.
    #[must_use]
    pub fn health_checks(&self, service: &str) -> Found<Vec<Check>> {
        let found = self.health_service(service, &super::directory::Wanted::default());
        let own = |check: &Check| check.service_name.eq_ignore_ascii_case(service);
        let body = found.body.into_iter().flat_map(|entry| entry.checks).filter(own).collect();
        Found { index: found.index, body }
    }

    /// `health/node/NODE`.
    #[must_use]
    pub fn health_node(&self, node: &str) -> Found<Vec<Check>> {
        let body = self.find_node(node).map_or_else(Vec::new, |node| self.checks_on(&node));
        Found { index: self.index_of_node(node), body }
    }

    /// `health/state/STATE`; `None` is any.
    #[must_use]
    pub fn health_state(&self, state: Option<Status>) -> Found<Vec<Check>> {
        let nodes = self.all_nodes();
        let checks = nodes.values().flat_map(|node| self.checks_on(node));
        let body = checks.filter(|check| state.is_none_or(|state| check.status == state)).collect();
        Found { index: self.last(&KINDS), body }
    }

    fn checks_on(&self, node: &Node) -> Vec<Check> {
        let mut checks = node_checks(self, node);
        let own =
            |entry: Entry| entry.checks.into_iter().filter(|check| !check.service_id.is_empty());
        checks.extend(self.entries_on(node).into_iter().flat_map(own));
        checks
    }
}
