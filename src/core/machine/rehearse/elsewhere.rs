//! What the agents of other hosts do in a rehearsal, of which only the records are known here.
//!
//! They withdraw a master whose process ended, give the final positions of their copies, and take
//! when theirs ranks first. Nobody knows their positions before it happens: a copy whose record
//! says that it is in step is supposed to have what the master was last seen to have. Others give
//! nothing, as in earnest they would lose against those. This never decides who may take over.

use std::collections::BTreeMap;

use crate::kv::{Compare, Op, Txn};
use crate::name::InstanceName;
use crate::position::Position;
use crate::record::{
    Cause, FORMAT, FinalRecord, Health, InstanceRecord, Lag, MasterRecord, MasterState, Proof,
    Record, key,
};

use super::{Serves, Stage};

/// The instances of other hosts, and what their copies are supposed to have.
#[derive(Debug, Clone, Default)]
pub(super) struct Elsewhere {
    instances: BTreeMap<InstanceName, InstanceRecord>,
    position: Option<Position>,
}

impl Elsewhere {
    pub(super) fn of(stage: &Stage) -> Self {
        let machine = &stage.machine;
        let Some(host) = machine.config.as_ref().map(|config| &config.host) else {
            return Self::default();
        };
        let Some(view) = machine.catalog.service(&stage.name) else { return Self::default() };
        let others = view.instances.iter().filter(|(_, at)| at.record.host != *host);
        let instances: BTreeMap<_, _> =
            others.map(|(name, at)| (name.clone(), at.record.clone())).collect();
        let holder = view.managed_record().map(|record| &record.holder.instance);
        let master = holder.and_then(|holder| stage.actors.get(holder));
        let known = master.or_else(|| stage.actors.values().find(|actor| actor.state.link_up));
        Self { instances, position: known.map(|actor| actor.state.held().clone()) }
    }

    /// In step with the master, as far as its record tells.
    fn in_step(record: &InstanceRecord) -> bool {
        record.health == Health::Up
            && record.link_up
            && !record.syncing
            && record.lag == Lag::None
            && record.trouble.is_none()
            && record.quarantine.is_none()
    }
}

impl Stage {
    /// The process of a master of another host ends: its agent withdraws it.
    pub(super) fn withdraw_elsewhere(&mut self, record: &MasterRecord) {
        if !self.elsewhere.instances.contains_key(&record.holder.instance) {
            return;
        }
        let (proof, cause, noticed) = (Proof::Exited, Cause::ProcessExited, self.now.wall);
        let state = MasterState::Vacant { proof, cause, noticed, seen: None };
        let vacant = MasterRecord { state, since: noticed, ..record.clone() };
        let key = key::master(&self.name);
        let value = vacant.encode();
        self.happen(&Txn { then: vec![Op::Put { key, value, lease: 0 }], ..Txn::default() });
    }

    /// Nobody is master: copies of other hosts that are in step give their final positions.
    pub(super) fn testify_elsewhere(&mut self, record: &MasterRecord) {
        let Some(position) = self.elsewhere.position.clone() else { return };
        let term = record.term;
        let mut txn = Txn::default();
        for (name, instance) in &self.elsewhere.instances {
            let Some(boot_id) = instance.boot_id.clone() else { continue };
            if *name == record.holder.instance || !Elsewhere::in_step(instance) {
                continue;
            }
            let r#final = FinalRecord {
                format: FORMAT,
                in_step: instance.in_step.as_ref() == Some(&boot_id),
                boot_id,
                received: position.clone(),
                applied: position.clone(),
                unfit: None,
                priority: instance.priority,
                unknown: serde_json::Map::new(),
            };
            let key = key::r#final(&self.name, term, name);
            txn.when.push(Compare::Modified(key.clone(), 0));
            txn.then.push(Op::Put { key, value: r#final.encode(), lease: 0 });
            self.told.provided.push(format!(
                "{name} on {} has all that its master has, as its record says",
                instance.host
            ));
        }
        if !txn.then.is_empty() {
            self.happen(&txn);
        }
    }

    /// The first of a ranking that stands is a copy of another host: its agent takes.
    pub(super) fn taken_elsewhere(&self) -> Option<Serves> {
        let record = self.record()?;
        let order = self.machine.services.get(&self.name)?.ranked_now()?;
        let first = order.first()?;
        let open = matches!(record.state, MasterState::Vacant { .. } | MasterState::Lapsed);
        let instance = self.elsewhere.instances.get(first).filter(|_| open)?;
        Some(Serves {
            instance: first.clone(),
            term: record.term.next(),
            address: instance.address,
        })
    }
}
