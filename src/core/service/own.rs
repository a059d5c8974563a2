//! What this agent knows of one of its own instances, and the lanes of commands to it.
//!
//! Two lanes: `lane` for everything ordered, `fence` apart, because a fence waits for nothing.
//! An observation that began before the last command ended is not looked at.

use std::time::Duration;

use crate::event::{Action, ActionId, Command, ControlOutcome};
use crate::name::{BootId, InstanceId, InstanceName, Term};
use crate::observation::{Answer, InstanceState, Observation, Process, Role};
use crate::position::{Covering, Position};
use crate::record::{Health, MasterRecord, Unfit};
use crate::sabotage::sabotaged;
use crate::time::{Now, Time};

use super::Cx;
use super::arrears::Arrears;
use super::trail::Trail;

/// Equal failures in a row before an instance counts as silent.
const FAILURES: u32 = 3;
/// Ended lives that are remembered.
const ENDED_LIVES: usize = 8;
/// How long after a failed command the next try waits.
pub(super) const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Own {
    /// The life of its process that was last seen alive.
    pub(crate) boot_id: Option<BootId>,
    /// The life that was last seen to exit, and when.
    pub(crate) exited: Option<(BootId, Now)>,
    /// The life in which it was last in step with the master, or was it.
    pub(crate) stepped: Option<BootId>,
    /// What it held when it was last in step, and in which term.
    held: Option<(Term, Position)>,
    /// Lives that are known to have ended; the newest last.
    pub(crate) ended_lives: Vec<BootId>,
    /// The holder's life that the shell was asked to watch.
    pub(crate) watched: Option<BootId>,
    /// What it last told, and when that look ended.
    pub(crate) known: Option<Known>,
    /// When it was last seen to have applied more than before.
    pub(crate) came_on: Time,
    /// Looks in a row without a state, since when, and the words for the last.
    pub(crate) failing: Option<Failing>,
    /// The agent itself was late until then: looks begun before, also those that it hears of only
    /// afterwards, judge nobody.
    pub(crate) doubted: Time,
    pub(crate) process: Process,
    pub(crate) lane: Option<(ActionId, Term, Command)>,
    pub(crate) fence: Option<ActionId>,
    /// The last fence that failed: why.
    pub(crate) fence_failed: Option<String>,
    /// Why the fence under way was begun, where it ends a holder.
    pub(crate) ending: Option<crate::record::Cause>,
    /// Acknowledged fenced: this life, not opened since.
    pub(crate) fenced: Option<BootId>,
    /// Looks in a row in which it took no writes.
    pub(crate) closed: u32,
    /// Looks in a row in which it took writes and followed nobody.
    pub(crate) opened: u32,
    /// The term that was taken for it, and for which it was seen open.
    pub(crate) opened_for: Option<Term>,
    /// The fence thread fired for this term: the term is over for this instance.
    pub(crate) fired: Option<Term>,
    /// The term whose fence fired for an earlier life, or was due when that exited: the fence ended
    /// it, or would have.
    pub(crate) ran_out: Option<Term>,
    pub(crate) retry_at: Time,
    /// When the last fence ended, and not again before.
    pub(crate) fence_tried: Time,
    pub(crate) fence_after: Time,
    /// Looks began up to then are older than the last command.
    pub(crate) acted: Time,
    pub(crate) observed_at: Time,
    /// What it had while it took writes: what may be lost, and how far copies are behind.
    pub(crate) trail: Trail,
    /// The life that the newest moment of the trail is of.
    pub(crate) trail_of: Option<BootId>,
    pub(crate) arrears: Arrears,
    pub(crate) quarantine: Option<String>,
    /// The quarantine of an earlier life of the agent was read from the record.
    pub(crate) recalled: bool,
    /// Told to follow the master, it has had no link to it since then.
    pub(crate) unlinked: Option<Time>,
    /// The term, and its master, that this life was last told to follow.
    pub(crate) pointed: Option<(Term, std::net::SocketAddr)>,
    /// How often this life could not do so in that term, without an end, and why the last time.
    pub(crate) unpointed: Option<(Term, u32, String)>,
    /// The first position seen after a lapse.
    pub(crate) mark: Option<(Time, Position)>,
    /// The promotion of this term failed: why.
    pub(crate) promote_failed: Option<(Term, String)>,
    /// What only it holds, as the shell was last told.
    pub(crate) strays: Option<String>,
    /// Told in this life to acknowledge no more, and it cannot. That a look shows it not
    /// acknowledging is less: its receiver may just be stopped.
    pub(crate) quiet: Option<BootId>,
    /// Told in this life to wait for so many acknowledgements, and done; nothing was sent since.
    pub(crate) awaits: Option<(BootId, u32)>,
    /// Its process was another one when it was let in among those that acknowledge.
    pub(crate) restarted: bool,
    /// Equal positions read in a row since the fence.
    pub(crate) reads: u32,
    /// What made it unfit when its detach was sent.
    pub(crate) detaching: Option<Unfit>,
    /// Detached in this term, in this life; and what made it unfit before.
    pub(crate) detached: Option<(Term, BootId, Option<Unfit>)>,
}

#[derive(Debug, Clone, Hash)]
pub(crate) struct Known {
    pub(crate) sent: Time,
    pub(crate) state: InstanceState,
}

#[derive(Debug, Clone, Hash)]
pub(crate) struct Failing {
    pub(crate) since: Time,
    /// When the last of these looks began.
    pub(crate) last: Time,
    pub(crate) looks: u32,
    pub(crate) words: String,
    pub(crate) alive: bool,
    /// It said nothing at all; a refusal and an error are words too.
    pub(crate) silent: bool,
    /// It lives and does not say whether it takes writes: no connection is left, the login is
    /// wrong, a script runs.
    pub(crate) mute: bool,
}

impl Own {
    pub(crate) fn state(&self) -> Option<&InstanceState> {
        self.known.as_ref().map(|known| &known.state)
    }

    /// Does what it last told come from a look, or a command's answer, sent then or later?
    pub(crate) fn seen_since(&self, time: Time) -> bool {
        self.known.as_ref().is_some_and(|known| known.sent >= time)
    }

    pub(crate) fn writable(&self) -> bool {
        self.state().is_some_and(|state| state.writable)
    }

    /// What it last had while it took writes, if that was in this life.
    pub(crate) fn seen_in(&self, life: &BootId) -> Option<&Position> {
        self.trail.last().filter(|_| self.trail_of.as_ref() == Some(life))
    }

    /// Its process has exited, and no later one was seen.
    pub(crate) fn is_exited(&self) -> bool {
        self.boot_id.is_none() && self.exited.is_some()
    }

    /// Is this life of its process known to have ended?
    pub(crate) fn gone(&self, boot_id: &BootId) -> bool {
        self.ended_lives.contains(boot_id)
            || (sabotaged!(AnyExitCounts) && !self.ended_lives.is_empty())
    }

    /// Is it known that this life of it ended, or that it takes no writes?
    pub(crate) fn saw_end(&self, boot_id: &BootId) -> bool {
        self.gone(boot_id)
            || self.boot_id.as_ref().is_some_and(|boot| boot != boot_id)
            || self.state().is_some_and(|state| !state.writable)
    }

    /// What was seen before is old: failures are counted anew.
    pub(crate) fn doubt(&mut self, now: Now) {
        self.doubted = now.time;
        (self.closed, self.opened) = (0, 0);
        if let Some(failing) = &mut self.failing {
            failing.since = now.time;
            failing.looks = 0;
        }
    }

    pub(crate) fn busy(&self) -> bool {
        self.lane.is_some() || self.fence.is_some()
    }

    pub(crate) fn observed(&mut self, now: Now, sent: Time, seen: Observation) {
        self.process = seen.process;
        if let Some(boot_id) = &seen.boot_id {
            if self.exited.as_ref().is_some_and(|(gone, _)| gone == boot_id) {
                return; // A look that began before the exit.
            }
            if self.boot_id.as_ref() != Some(boot_id) {
                self.new_life(boot_id.clone());
            }
        }
        if sent < self.acted {
            return;
        }
        if let Some(boot_id) = self.boot_id.clone()
            && seen.answer == Answer::Refused
            && sabotaged!(RefusedIsDead)
        {
            return self.exited(now, &boot_id);
        }
        self.observed_at = sent;
        if let Answer::State(state) = seen.answer {
            self.told(now, sent, state);
        } else {
            self.failed(sent, &seen.answer);
        }
    }

    fn new_life(&mut self, boot_id: BootId) {
        *self = Self {
            boot_id: Some(boot_id),
            exited: self.exited.take(),
            ran_out: self.fired.or(self.ran_out),
            ended_lives: std::mem::take(&mut self.ended_lives),
            quarantine: self.quarantine.take(),
            recalled: self.recalled,
            stepped: self.stepped.take(),
            held: self.held.take(),
            strays: self.strays.take(),
            watched: self.watched.take(),
            restarted: self.restarted || self.boot_id.is_some(),
            process: self.process,
            acted: self.acted,
            doubted: self.doubted,
            trail: std::mem::take(&mut self.trail),
            trail_of: self.trail_of.take(),
            // Commands under way were for the old life; their ends are dropped by id.
            ..Self::default()
        };
    }

    fn told(&mut self, now: Now, sent: Time, state: InstanceState) {
        self.failing = None;
        if sent > self.fence_tried {
            // It answers again: the next fence is judged by itself.
            self.fence_failed = None;
        }
        // Looks that waited for a late agent tell what was, however many they are.
        let one = u32::from(sent >= self.doubted);
        let opened = state.writable && state.role == Role::Master;
        self.opened = if opened { self.opened.saturating_add(one) } else { 0 };
        if state.writable {
            self.closed = 0;
            self.fenced = None;
            self.trail.note(now.wall, &state.applied);
            self.trail_of.clone_from(&self.boot_id);
        } else {
            self.closed = self.closed.saturating_add(one);
        }
        let before = self.known.as_ref().map(|known| &known.state.applied);
        if before
            .is_some_and(|before| matches!(state.applied.covers(before), Covering::Covers(1..)))
        {
            self.came_on = now.time;
        }
        self.arrears.note(now.wall, &state.received, &state.applied);
        self.known = Some(Known { sent, state });
    }

    fn failed(&mut self, sent: Time, answer: &Answer) {
        let words = words(answer, self.process);
        let looks = self.failing.as_ref().map_or(0, |failing| failing.looks);
        let looks = if sent < self.doubted { 0 } else { looks.saturating_add(1) };
        let silent = *answer == Answer::Silent;
        // Silence counts from its own beginning.
        let since = self.failing.as_ref().filter(|failing| failing.silent == silent);
        let since = since.map_or(sent, |failing| failing.since).max(self.doubted);
        let alive = answer.alive();
        let mute = alive && *answer != Answer::Loading;
        self.failing = Some(Failing { since, last: sent, looks, words, alive, silent, mute });
    }

    pub(crate) fn exited(&mut self, now: Now, boot_id: &BootId) {
        if !self.gone(boot_id) {
            if self.ended_lives.len() == ENDED_LIVES {
                self.ended_lives.remove(0);
            }
            self.ended_lives.push(boot_id.clone());
        }
        if self.boot_id.as_ref().is_some_and(|current| current != boot_id) {
            return; // The one before; another life was seen since.
        }
        self.exited = Some((boot_id.clone(), now));
        self.restarted = true;
        self.boot_id = None;
        self.known = None;
        self.failing = None;
        self.fenced = None;
        self.unpointed = None;
        self.process = Process::Gone;
        self.lane = None;
        self.fence = None;
    }

    /// What stood in the ordered lane ended.
    pub(crate) fn lane_ended(&mut self, now: Now, outcome: ControlOutcome) {
        let Some((_, term, command)) = self.lane.take() else { return };
        match (&command, &outcome) {
            (Command::Detach, ControlOutcome::Done { boot_id, state }) => {
                let empty = state.never_synced.then_some(Unfit::NeverSynced);
                self.detached = Some((term, boot_id.clone(), self.detaching.or(empty)));
            }
            (Command::Acknowledge { on: false }, ControlOutcome::Done { boot_id, .. }) => {
                self.quiet = Some(boot_id.clone());
            }
            (Command::Await { count }, ControlOutcome::Done { boot_id, .. }) => {
                self.awaits = Some((boot_id.clone(), *count));
            }
            (Command::Read, ControlOutcome::Done { state, .. }) => {
                let same = self.state().is_some_and(|last| last.applied == state.applied);
                self.reads = if same { self.reads + 1 } else { 1 };
            }
            (Command::Pause { .. }, _) if sabotaged!(PauseIsFence) => self.reads = 1,
            (Command::Follow { .. }, ControlOutcome::Done { .. }) => self.unpointed = None,
            (Command::Follow { .. }, ControlOutcome::Failed { error, .. }) => {
                let before = self.unpointed.take().filter(|(at, ..)| *at == term);
                let times = before.map_or(0, |(_, times, _)| times).saturating_add(1);
                self.unpointed = Some((term, times, error.clone()));
            }
            (Command::Promote { .. }, ControlOutcome::Failed { error, .. }) => {
                self.promote_failed = Some((term, error.clone()));
            }
            (Command::Promote { .. }, ControlOutcome::Done { state, .. }) if !state.writable => {
                let why = "it takes no writes after the promotion".to_owned();
                self.promote_failed = Some((term, why));
            }
            _ => {}
        }
        let done = match (&command, &outcome) {
            (Command::Follow { source }, ControlOutcome::Done { state, .. }) => {
                state.source == Some(*source)
            }
            (Command::Acknowledge { on }, ControlOutcome::Done { state, .. }) => {
                state.semi_sync.is_none_or(|semi| semi.acknowledges == *on)
            }
            (Command::Await { count }, ControlOutcome::Done { state, .. }) => {
                state.semi_sync.is_none_or(|semi| semi.awaits == *count)
            }
            _ => true,
        };
        self.ended(now, outcome);
        if !done {
            self.retry_at = now.time + RETRY; // It said so, and did not do it.
        }
    }

    /// A command ended, whichever lane it ran in.
    pub(crate) fn ended(&mut self, now: Now, outcome: ControlOutcome) {
        self.acted = now.time;
        match outcome {
            ControlOutcome::Done { boot_id, mut state } => {
                if self.exited.as_ref().is_some_and(|(gone, _)| *gone == boot_id) {
                    return;
                }
                if self.boot_id.as_ref() != Some(&boot_id) {
                    self.new_life(boot_id);
                } else if let Some(known) = &self.known {
                    // Looks judge the settings; a command has no time for that.
                    state.settings = known.state.settings.clone();
                }
                self.told(now, now.time, state);
            }
            ControlOutcome::Exited { boot_id } => {
                if let Some(boot_id) = boot_id.or_else(|| self.boot_id.clone()) {
                    self.exited(now, &boot_id);
                }
            }
            ControlOutcome::Failed { .. } => self.retry_at = now.time + RETRY,
        }
    }

    /// Whether and how it answers, as its record says it.
    pub(crate) fn health(&self) -> Health {
        if self.is_exited() {
            return Health::Exited;
        }
        match &self.failing {
            None if self.known.is_some() => Health::Up,
            None => Health::Silent("not asked yet".to_owned()),
            Some(failing) if failing.alive => Health::Troubled(failing.words.clone()),
            Some(failing) if failing.looks < FAILURES && self.known.is_some() => Health::Up,
            Some(failing) => Health::Silent(failing.words.clone()),
        }
    }

    /// Silent for long, and its process does nothing that would explain it. The last look began
    /// after all that time: what the process did since an earlier one nobody knows.
    pub(crate) fn hung(&self, after: Duration) -> bool {
        if sabotaged!(HungAtOnce) && self.failing.is_some() {
            return true;
        }
        self.seems_hung().is_some_and(|failing| {
            failing.looks >= FAILURES && failing.last >= failing.since + after
        })
    }

    fn seems_hung(&self) -> Option<&Failing> {
        let idle = matches!(self.process, Process::Sleeping | Process::Stopped | Process::DiskWait);
        self.failing.as_ref().filter(|failing| idle && failing.silent)
    }

    /// Has this life of the agent never been told by the process whether it takes writes, for so
    /// long? It was open, as far as anybody knows; one that stands still would take writes on
    /// waking, one without a connection left takes them now.
    pub(crate) fn may_be_open(&self, cx: &mut Cx<'_>, patience: Duration) -> bool {
        let untold = self.failing.as_ref().filter(|_| self.known.is_none());
        let Some(failing) = untold.filter(|it| it.mute || self.seems_hung().is_some()) else {
            return false;
        };
        let due = failing.since + patience;
        if cx.now.time < due {
            cx.out.wake(due);
        }
        cx.now.time >= due
    }

    /// Has no look of this life of the agent come back yet?
    pub(crate) fn is_unseen(&self) -> bool {
        self.known.is_none() && self.failing.is_none() && !self.is_exited()
    }

    /// Asks for the look that decides whether it hangs, when it is time for it.
    pub(crate) fn look_whether_hung(
        &self,
        cx: &mut Cx<'_>,
        instance: &InstanceName,
        after: Duration,
    ) {
        let Some(failing) = self.seems_hung() else { return };
        let due = failing.since + after;
        if cx.now.time < due {
            cx.out.wake(due);
        } else if failing.last < due {
            self.observe(cx, instance);
        }
    }

    /// Does it hold what its earlier lives held in this term, and what the term began with? One
    /// that was emptied has a link, too, and its master may be another that was. (Redis: a link
    /// stands for all data, and a history that began anew is told by its id.)
    pub(crate) fn kept_all(&self, record: &MasterRecord) -> bool {
        let Some(mine) = self.state().map(InstanceState::held) else { return false };
        let before = self.held.iter().filter(|(term, _)| *term == record.term);
        let all = before.map(|(_, held)| held).chain(record.origins.last());
        let mut lost = all.filter(|it| !mine.has(it));
        matches!(mine, Position::Redis(_)) || lost.next().is_none()
    }

    /// Was it seen in step in this term, by this life of the agent?
    pub(crate) fn was_in_step(&self, term: Term) -> bool {
        self.held.as_ref().is_some_and(|(at, _)| *at == term)
    }

    /// It is in step: what it holds now, an emptied life of it will lack.
    pub(crate) fn note_held(&mut self, term: Term) {
        let Some(mine) = self.known.as_ref().map(|known| known.state.held()) else { return };
        if self.held.as_ref().is_none_or(|(at, held)| *at != term || held != mine) {
            self.held = Some((term, mine.clone()));
        }
    }

    /// Is it, or was it in this life of its process, in step with the master, or the master?
    pub(crate) fn in_step(&self) -> bool {
        self.stepped.is_some() && self.stepped == self.boot_id
    }

    /// Its data is no whole copy.
    pub(crate) fn half(&self) -> Option<Unfit> {
        let state = self.state()?;
        if state.syncing {
            Some(Unfit::Syncing)
        } else if state.never_synced {
            Some(Unfit::NeverSynced)
        } else {
            state.filtered.then_some(Unfit::Filtered)
        }
    }

    /// Its data grew although the lease of the one it follows ran out: somebody writes.
    pub(crate) fn advanced_since_mark(&mut self, after: Time) -> Option<bool> {
        let known = self.known.as_ref()?;
        if known.sent <= after {
            return None;
        }
        match &self.mark {
            Some((at, position)) if *at > after => {
                if known.sent < *at + Duration::from_millis(100) {
                    return None;
                }
                let grown = matches!(known.state.received.covers(position), Covering::Covers(1..));
                if grown {
                    self.mark = Some((known.sent, known.state.received.clone()));
                }
                Some(grown)
            }
            _ => {
                self.mark = Some((known.sent, known.state.received.clone()));
                None
            }
        }
    }

    /// It acknowledges nothing, and will not when it receives again.
    pub(crate) fn is_quiet(&self) -> bool {
        let acknowledges = self.state().and_then(|state| state.semi_sync);
        self.quiet.is_some()
            && self.quiet == self.boot_id
            && !acknowledges.is_some_and(|semi| semi.acknowledges)
    }

    /// Its commits wait for so many acknowledgements, and no command under way or unanswered could
    /// change that.
    pub(crate) fn surely_awaits(&self, acks: u32) -> bool {
        let told = self.awaits.as_ref().filter(|(boot, count)| {
            Some(boot) == self.boot_id.as_ref() && *count == acks && !self.busy()
        });
        let state = self.state().and_then(|state| state.semi_sync);
        told.is_some() && state.is_some_and(|semi| semi.awaits == acks)
    }

    /// Acknowledged fenced in this life, and closed since.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.is_some() && self.fenced == self.boot_id && !self.writable()
    }

    /// Asks for a look now, unless one just ended.
    pub(crate) fn observe(&self, cx: &mut Cx<'_>, instance: &InstanceName) {
        self.observe_while(cx, instance, Duration::ZERO);
    }

    /// The same; less often once the wait has become long.
    pub(crate) fn observe_while(&self, cx: &mut Cx<'_>, instance: &InstanceName, waited: Duration) {
        let pause = if waited < Duration::from_secs(1) { 20 } else { 250 };
        let pause = Duration::from_millis(pause);
        if cx.now.time >= self.observed_at + pause {
            cx.out.push(Action::Observe(cx.id(instance)));
        }
        cx.out.wake(cx.now.time + pause);
    }

    /// Sends a command down the ordered lane. The caller has seen that it is free.
    pub(crate) fn command(
        &mut self,
        cx: &mut Cx<'_>,
        instance: &InstanceName,
        term: Term,
        command: Command,
        within: Duration,
    ) {
        if matches!(command, Command::Promote { .. }) {
            // Without its answer nobody knows when it runs: only a later fence is a proof again.
            self.fenced = None;
            // Why it was closed before says nothing about how it will end.
            self.ending = None;
        }
        if command == (Command::Acknowledge { on: true }) {
            self.quiet = None;
        }
        if matches!(command, Command::Await { .. } | Command::Promote { .. }) {
            self.awaits = None;
        }
        let target: InstanceId = cx.id(instance);
        let sent = command.clone();
        let id = cx.out.act(cx.name, |id| Action::Control {
            id,
            instance: target,
            term,
            command: sent,
            within,
        });
        self.lane = Some((id, term, command));
    }

    /// Sends a fence, whatever the ordered lane does.
    pub(crate) fn start_fence(
        &mut self,
        cx: &mut Cx<'_>,
        instance: &InstanceName,
        term: Term,
        kill: bool,
    ) {
        if self.fence.is_some() {
            return;
        }
        if cx.now.time < self.fence_after {
            cx.out.wake(self.fence_after);
            return;
        }
        let target = cx.id(instance);
        let id = cx.out.act(cx.name, |id| Action::Control {
            id,
            instance: target,
            term,
            command: Command::Fence { kill },
            within: FENCE_WITHIN,
        });
        self.fence = Some(id);
    }
}

/// Does it receive from a copy of its service, or may it at any time?
pub(super) fn still_attached(view: &crate::catalog::ServiceView, state: &InstanceState) -> bool {
    let of_service =
        |source| view.instances.values().any(|instance| instance.record.address == source);
    state.link_up || state.syncing || state.source.is_some_and(of_service)
}

/// A fence's bound, all rungs together.
pub(crate) const FENCE_WITHIN: Duration = Duration::from_secs(2);

fn words(answer: &Answer, process: Process) -> String {
    let base = match answer {
        Answer::State(_) => "up".to_owned(),
        Answer::Loading => "it loads its data".to_owned(),
        Answer::Busy => "it is busy in a script".to_owned(),
        Answer::AuthFailed(why) => format!("it refused the password: {why}"),
        Answer::TooManyClients => "it has no connection left".to_owned(),
        Answer::Refused => "it refuses connections".to_owned(),
        Answer::Silent => "it does not answer in time".to_owned(),
        Answer::Error(why) => format!("it answered with an error: {why}"),
    };
    match process {
        Process::Stopped => format!("{base}; its process is stopped"),
        Process::DiskWait => format!("{base}; its process waits for the disk"),
        Process::Unknown | Process::Running | Process::Sleeping | Process::Gone => base,
    }
}

/// A short word for `status`.
pub(crate) fn health_words(health: &Health) -> String {
    match health {
        Health::Up => "up".to_owned(),
        Health::Troubled(why) | Health::Silent(why) => why.clone(),
        Health::Exited => "its process has exited".to_owned(),
    }
}
