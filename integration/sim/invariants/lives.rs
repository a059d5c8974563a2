//! The lives of processes: when each ran, when it stood still, and when fences that ended it were
//! decided.

use std::collections::BTreeMap;

use super::super::fact::Id;
use super::super::schedule::{MILLI, Micros};

/// No world counts less as hung; a clock may be one percent off.
const HUNG: Micros = 1_900 * MILLI;

/// One life of a process.
#[derive(Debug, Default)]
struct Life {
    since: Micros,
    exited: Option<Micros>,
    /// When it stood still: since, until.
    stops: Vec<(Micros, Micros)>,
    /// When fences of it that are done were decided.
    fences: Vec<Micros>,
}

/// The lives of all processes; the last one of each runs, or was the last to run.
#[derive(Debug, Default)]
pub(super) struct Lives {
    of: BTreeMap<Id, Vec<Life>>,
}

impl Lives {
    fn last(&mut self, id: Id) -> &mut Life {
        let lives = self.of.entry(id).or_default();
        if lives.is_empty() {
            lives.push(Life::default());
        }
        lives.last_mut().expect("one was pushed")
    }

    pub(super) fn started(&mut self, at: Micros, id: Id) {
        self.last(id);
        let lives = self.of.entry(id).or_default();
        lives.push(Life { since: at, ..Life::default() });
    }

    pub(super) fn exited(&mut self, at: Micros, id: Id) {
        self.goes_on(at, id);
        self.last(id).exited = Some(at);
    }

    /// Stops with less than a look between them are one: nobody could see it awake.
    pub(super) fn stands_still(&mut self, at: Micros, id: Id, look: Micros) {
        let stops = &mut self.last(id).stops;
        match stops.last_mut() {
            Some((_, end)) if at < end.saturating_add(look) => *end = Micros::MAX,
            _ => stops.push((at, Micros::MAX)),
        }
    }

    pub(super) fn goes_on(&mut self, at: Micros, id: Id) {
        if let Some((_, end)) = self.last(id).stops.last_mut() {
            *end = at.min(*end);
        }
    }

    /// A fence is done. It ended the life that ran when it was decided, if one did.
    pub(super) fn fenced(&mut self, decided: Micros, id: Id) {
        self.last(id);
        let lives = self.of.get_mut(&id).into_iter().flatten();
        let ran =
            |life: &&mut Life| (life.since..=life.exited.unwrap_or(Micros::MAX)).contains(&decided);
        if let Some(life) = lives.rev().find(ran) {
            life.fences.push(decided);
        }
    }

    /// Did the life that ran at a time hang when its end was decided, or until less than a look
    /// before? Where nobody was told of a fence, its end counts, and `sent` while it lives.
    ///
    /// # Errors
    /// It did not; for how long at most it had stood still.
    pub(super) fn hung(
        &self,
        id: Id,
        ran: Micros,
        sent: Micros,
        look: Micros,
    ) -> Result<(), Micros> {
        let lives = self.of.get(&id).map(Vec::as_slice).unwrap_or_default();
        let Some(life) = lives.iter().rev().find(|life| life.since <= ran) else { return Err(0) };
        let untold = life.exited.unwrap_or(sent);
        let stood = |(since, end): &(Micros, Micros)| {
            let mut moments: Vec<Micros> = life.fences.clone();
            moments.retain(|moment| moment >= since);
            if moments.is_empty() {
                moments.push(untold);
            }
            moments.retain(|moment| *moment <= end.saturating_add(look));
            moments.iter().map(|moment| moment.min(end) - since).max().unwrap_or(0)
        };
        let longest = life.stops.iter().map(stood).max().unwrap_or(0);
        if longest >= HUNG { Ok(()) } else { Err(longest) }
    }
}
