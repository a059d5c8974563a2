//! What a takeover may have lost, in words, for the history of its term.
//!
//! It says "nothing" only where that is known: of the same life of the last master, or of copies
//! that together hold everything. What cannot be known is said to be unknown, with the bound that
//! the last looks give. Nothing is decided by it.

use crate::candidate::shortened;
use crate::name::InstanceName;
use crate::position::{Covering, Position};
use crate::record::{Cause, MasterRecord, MasterState, Unfit};
use crate::sabotage::sabotaged;

use super::hold::CLOSED;
use super::{Cx, Service};

impl Service {
    /// What it may have lost that this copy takes, by the policy or because a person accepts it.
    pub(super) fn loss(
        &self,
        cx: &Cx<'_>,
        record: &MasterRecord,
        name: &InstanceName,
        lossy: bool,
    ) -> String {
        if sabotaged!(LossIsNothing) {
            return "nothing".to_owned();
        }
        if let Some(why) = filtered(cx, record, name).or_else(|| set_back(cx, record, name)) {
            return why;
        }
        if lossy || !super::sync::counts(cx, record) {
            return self.bounded(cx, record, name);
        }
        let sync = super::sync::in_sync(cx.view, record);
        let taken = cx.view.finals.get(&(record.term, name.clone())).map(|at| &at.record);
        let back = *name == record.holder.instance
            && taken.is_none_or(|taken| taken.boot_id != record.holder.boot_id);
        // Only it had everything, and a server that is not surely the same one may have lost its
        // data and been filled again; durable settings say that the same one lost nothing.
        let was = sync.seen.or_else(|| record.origins.last());
        let same = taken.zip(was).and_then(|(it, was)| it.received.same_folder(was));
        if !back || !sync.copies.is_empty() || same == Some(true) {
            return "nothing: it holds every acknowledged write".to_owned();
        }
        let seen = sync.seen.map_or("", |_| "; it has all that it was last seen with");
        format!("unknown: it alone had every acknowledged write, and was restarted{seen}")
    }

    /// The same where copies are not waited for.
    fn bounded(&self, cx: &Cx<'_>, record: &MasterRecord, name: &InstanceName) -> String {
        let Some(taken) = cx.view.finals.get(&(record.term, name.clone())) else {
            return "unknown".to_owned();
        };
        let position = &taken.record.received;
        if let Some(before) = cx.view.history.get(&record.term)
            && before.record.cause != Cause::Adopted
            && !before.record.steps.iter().any(|step| step.name == "serving")
        {
            // That term never served: what was lost, was lost to the one before it. A later life of
            // the one that took it may have less than it had then.
            let closed = matches!(&record.state,
                MasterState::Vacant { cause: Cause::PromotionFailed(why), .. } if why == CLOSED);
            let same = taken.record.boot_id == record.holder.boot_id && !closed;
            return if before.record.to == *name && same {
                before.record.loss.clone()
            } else {
                "unknown: the move before this one failed".to_owned()
            };
        }
        // A later life of it may have less than what was acknowledged, and so may one that
        // somebody pointed at another server before sengu fenced it.
        let last = cx.view.finals.get(&(record.term, record.holder.instance.clone()));
        let closed_by_hand =
            matches!(record.state, MasterState::Vacant { cause: Cause::NotWritable, .. });
        let same_life = last.filter(|own| own.record.boot_id == record.holder.boot_id);
        if let Some(own) = same_life.filter(|_| !closed_by_hand) {
            if !self.was_in_step(record, name) {
                return format!(
                    "unknown: `{name}` was not seen in step with the old master, and numbers alone \
                     do not tell what they stand for"
                );
            }
            return match position.covers_in(&own.record.received, &record.origins) {
                Covering::Covers(_) => "nothing: it has all that the old master had".to_owned(),
                Covering::Lacks(units) => {
                    format!("{units} {} of the old master's writes", position.unit())
                }
                Covering::Incomparable => "unknown: the histories cannot be compared".to_owned(),
            };
        }
        let trail = self.own.get(&record.holder.instance).map(|own| &own.trail);
        match trail.and_then(|trail| trail.had_at(position)) {
            Some(at) => {
                let ms = at.until(record.since).as_millis();
                format!("unknown, at most the writes of the last {ms} ms before it was withdrawn")
            }
            None => "unknown: the old master's last position was not seen".to_owned(),
        }
    }
}

impl Service {
    /// Did this life of the agent see it in step in the term that ended? A master that was set back
    /// or emptied gives numbers again (MySQL, MariaDB), and a copy of it that covers them all may
    /// have something else under each. Redis names each history by itself.
    fn was_in_step(&self, record: &MasterRecord, name: &InstanceName) -> bool {
        let own = self.own.get(name);
        let transactions =
            record.origins.last().is_some_and(|it| !matches!(it, Position::Redis(_)));
        *name == record.holder.instance
            || !transactions
            || own.is_some_and(|own| own.was_in_step(record.term))
    }
}

/// The taker left out some of what it received: its position says more than it has.
fn filtered(cx: &Cx<'_>, record: &MasterRecord, taker: &InstanceName) -> Option<String> {
    let taken = cx.view.finals.get(&(record.term, taker.clone()))?;
    (taken.record.unfit == Some(Unfit::Filtered))
        .then(|| format!("unknown: a replication filter left out some of what `{taker}` received"))
}

/// The last master had been set back before its term, and gave numbers again that were given: what
/// the taker has under them is something else, and no comparison tells.
fn set_back(cx: &Cx<'_>, record: &MasterRecord, taker: &InstanceName) -> Option<String> {
    let r#final = |name: &InstanceName| cx.view.finals.get(&(record.term, name.clone()));
    let (last, taken) = (r#final(&record.holder.instance)?, r#final(taker)?);
    let again = last.record.received.would_repeat(&taken.record.received)?;
    let (holder, again) = (&record.holder.instance, shortened(&again));
    Some(format!(
        "unknown: `{holder}` had been set back ({again}), and what it wrote since has numbers that \
         were given before"
    ))
}
