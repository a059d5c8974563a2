//! What the agents of other hosts do in a rehearsal, of which only the records are known here.
//!
//! They withdraw a master whose process ended, give the final positions of their copies, and take
//! when theirs ranks first. Nobody knows their positions before it happens: a copy whose record
//! says that it is in step is supposed to have what the master was last seen to have, or, where no
//! copy here follows it, what is known of its history. Others give nothing, as in earnest they
//! would lose against those. This never decides who may take over.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::kv::{Compare, Op, Txn};
use crate::name::InstanceName;
use crate::position::{MariadbPosition, MysqlPosition, Position};
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
        let record = view.managed_record();
        let master = record.and_then(|record| stage.actors.get(&record.holder.instance));
        let follows = || stage.actors.values().find(|actor| actor.state.link_up);
        let seen = master.or_else(follows).map(|actor| actor.state.held().clone());
        let position = seen.or_else(|| Self::least(stage, &record?.origins)).map(Self::of_nobody);
        Self { instances, position }
    }

    /// What a copy in step has at least: all that one here has that once followed, or else what the
    /// term began with. A copy here with a history of its own, as one that is quarantined, tells
    /// nothing of the others.
    fn least(stage: &Stage, origins: &[Position]) -> Option<Position> {
        let here = stage.actors.values().map(|actor| actor.state.held());
        let known = here.filter(|position| position.strays(origins).is_none());
        let more = |a: &&Position, b: &&Position| a.order_in(b, origins).unwrap_or(Ordering::Equal);
        known.max_by(more).or_else(|| origins.last()).cloned()
    }

    /// The same, held by a server of which nothing else is known.
    fn of_nobody(position: Position) -> Position {
        match position {
            Position::Mysql(held) => {
                Position::Mysql(MysqlPosition { server: String::new(), ..held })
            }
            Position::Mariadb(held) => Position::Mariadb(MariadbPosition { server: 0, ..held }),
            held @ Position::Redis(_) => held,
        }
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
