//! no-needless-move: a master that nobody's beat keeps, and that is seen taking writes, stays.
//!
//! One sign is enough: its address says so, a copy here still receives, or another host says that
//! it sees it. A look counts for a second and is made again; while it is under way, what the last
//! one showed is still the reason that is said.

use std::net::SocketAddr;
use std::time::Duration;

use crate::catalog::At;
use crate::event::{Action, ActionId, LookOutcome};
use crate::name::Term;
use crate::record::{Holder, MasterRecord, MasterState};
use crate::sabotage::sabotaged;
use crate::time::Time;

use super::own::Own;
use super::{Cx, Service};

/// How long one look at an earlier holder may take, and how long its answer counts.
const LOOK_WITHIN: Duration = Duration::from_millis(300);
const LOOK_COUNTS: Duration = Duration::from_secs(1);

/// What speaks against a move.
#[derive(Debug, Clone, Hash)]
pub(super) struct Veto {
    pub(super) term: Term,
    /// As it is refused.
    why: String,
}

/// A look at an earlier holder that was not proven stopped.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Look {
    pub(super) under_way: Option<ActionId>,
    /// When the last one that ended was sent, and what it showed.
    pub(super) last: Option<(Time, LookOutcome)>,
    pub(super) sent: Time,
}

impl Service {
    /// no-needless-move: does a holder that was never proven stopped still take writes?
    pub(super) fn veto(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> bool {
        if sabotaged!(VetoIgnored) {
            return false;
        }
        let lapsed = at.record.state == MasterState::Lapsed;
        let mut asked: Vec<Holder> = at.record.unproven.clone();
        if lapsed {
            asked.push(at.record.holder.clone());
        }
        let term = at.record.term;
        let mut waiting = false;
        for holder in &asked {
            if cx.mine(holder) && self.own.contains_key(&holder.instance) {
                if self.own.get(&holder.instance).is_some_and(Own::writable) {
                    self.doing = Some(format!("fencing {}", holder.instance));
                    return true;
                }
                continue;
            }
            match self.look(cx, holder.address) {
                None => waiting = true,
                Some(LookOutcome::Writable) => {
                    let (name, address) = (&holder.instance, holder.address);
                    self.say_veto(
                        term,
                        format!("`{name}` at {address} still takes writes: no move while it does"),
                    );
                    return true;
                }
                Some(LookOutcome::NotWritable | LookOutcome::Unknown) => {}
            }
        }
        if waiting {
            self.doing = Some("looking at the old master's address".to_owned());
            self.repeat_veto(term);
            return true;
        }
        if lapsed && self.still_fed(cx, term) {
            return true;
        }
        self.veto = None;
        !asked.is_empty() && self.vetoed_elsewhere(cx, at)
    }

    /// Refuses the move: the master of this term was seen taking writes.
    fn say_veto(&mut self, term: Term, why: String) {
        self.refuse(why.clone());
        self.veto = Some(Veto { term, why });
    }

    /// While it looks again, what was seen last is still the reason.
    fn repeat_veto(&mut self, term: Term) {
        if let Some(veto) = self.veto.as_ref().filter(|veto| veto.term == term) {
            self.refuse(veto.why.clone());
        }
    }

    /// Another host may reach the old master where this one cannot, and says so with its beat.
    fn vetoed_elsewhere(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> bool {
        let (host, lease) = (cx.config.host.as_str(), cx.config.judge.lease());
        let term = at.record.term;
        let Some((host, until)) = cx.catalog.vetoed_by(cx.now.time, cx.name, term, host, lease)
        else {
            return false;
        };
        let name = &at.record.holder.instance;
        self.refuse(format!("host {host} sees that `{name}` takes writes: no move while it does"));
        cx.out.wake(until);
        true
    }

    /// A look that began after the record, not older than it may count; starts one if needed.
    pub(super) fn look(&mut self, cx: &mut Cx<'_>, address: SocketAddr) -> Option<LookOutcome> {
        let look = self.looks.entry(address).or_default();
        let after = cx.view.master_received.max(cx.doubted);
        let counts =
            look.last.filter(|(sent, _)| *sent >= after && cx.now.time < *sent + LOOK_COUNTS);
        if counts.is_none() && look.under_way.is_none() {
            look.sent = cx.now.time;
            look.under_way = Some(cx.out.act(cx.name, |id| Action::Look {
                id,
                service: cx.name.clone(),
                address,
                within: LOOK_WITHIN,
            }));
        }
        if let Some((sent, _)) = counts {
            cx.out.wake(sent + LOOK_COUNTS);
        }
        counts.map(|(_, outcome)| outcome)
    }

    /// Was a master of this term, which nobody keeps, last seen taking writes at an address?
    pub(crate) fn seen_writable(&self, term: Term, address: SocketAddr) -> bool {
        let stands = self.veto.as_ref().is_some_and(|veto| veto.term == term);
        let last = self.looks.get(&address).and_then(|look| look.last);
        stands && last.is_some_and(|(_, outcome)| outcome == LookOutcome::Writable)
    }

    /// Does a replica here still receive new writes although the lease ran out?
    fn still_fed(&mut self, cx: &mut Cx<'_>, term: Term) -> bool {
        let after = cx.view.master_received;
        let mut fed = None;
        for (name, own) in &mut self.own {
            let linked = own.state().is_some_and(|state| state.link_up && !state.writable);
            if !linked || own.failing.is_some() {
                continue;
            }
            match own.advanced_since_mark(after) {
                None => {
                    own.observe(cx, name);
                    self.doing = Some(format!("watching whether {name} still receives writes"));
                    self.repeat_veto(term);
                    return true;
                }
                Some(true) => fed = Some(name.clone()),
                Some(false) => {}
            }
        }
        if let Some(name) = fed {
            self.say_veto(
                term,
                format!("`{name}` still receives new writes: the old master is alive"),
            );
            return true;
        }
        false
    }
}
