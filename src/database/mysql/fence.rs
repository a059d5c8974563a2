//! The fence: makes the server refuse writes for good, or ends its process.
//!
//! First rung, over two connections of its own: one sets read-only, the other ends the sessions of
//! clients at the same time, again and again, until the setting has gone through; it would wait
//! for ever behind a lock, a long statement or an open commit. Then whoever was there is ended,
//! sessions with unanswered changes first of all, and the state is read back. MySQL is switched
//! offline in between if that is not enough. Last rung: SIGKILL by pidfd, for a server that is
//! stopped, does not answer, lets accounts write in spite of read-only, or has commits that wait
//! for an acknowledgement: to end such a session would commit what no copy has.
//!
//! It asks no store, no disk and no name server, waits for no lock that is held over a wait, and
//! never for the server's own time-outs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sengu_core::event::ControlOutcome;
use sengu_core::observation::InstanceState;
use tokio::time::{Instant, sleep};

use super::connection::Session;
use super::fault::{Fault, code};
use super::features::Features;
use super::sessions::{self, Other};
use super::settings::above_read_only;
use super::{Shared, observe, upkeep};
use crate::database::ladder::{End, Rung, Terms, climb, while_it_lives};
use crate::database::lane::Unsure;
use crate::process::Process;

/// Between two rounds of ending sessions.
const ROUND_PAUSE: Duration = Duration::from_millis(10);

/// Between two attempts while there is time left.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Why one attempt was not enough.
enum Problem {
    /// Another may be.
    Passing(String),
    /// No other will be.
    Lasting(String),
    /// Nothing was asked of the server, and no other attempt will be enough.
    Hopeless(String),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            // A command, or an attempt that came to nothing, ended this session with the others.
            Fault::Server { code: code::CONNECTION_KILLED | code::QUERY_INTERRUPTED, text } => {
                Self::Passing(text)
            }
            Fault::Denied(text) | Fault::Server { text, .. } => Self::Lasting(text),
            other => Self::Passing(other.to_string()),
        }
    }
}

/// Fences, within the time given.
pub(super) async fn fence(shared: &Arc<Shared>, kill: bool, within: Duration) -> ControlOutcome {
    let deadline = Instant::now() + within;
    let work = {
        let shared = Arc::clone(shared);
        async move { ladder(&shared, kill, deadline, within).await }
    };
    shared.fence_runtime.run(work).await.unwrap_or_else(|| ControlOutcome::Failed {
        error: format!("{}: the runtime of the fence is gone", shared.name),
        untouched: false,
    })
}

async fn ladder(
    shared: &Arc<Shared>,
    kill: bool,
    deadline: Instant,
    within: Duration,
) -> ControlOutcome {
    let unsure = shared.begin_fence();
    let terms = Terms { kill, deadline, within };
    let asked = &unsure;
    let end = climb(&shared.lives, terms, |process, until| async move {
        let (held_up, began) = (Mutex::default(), Instant::now());
        let attempt = Attempt { shared, unsure: asked, kill, began, until, held_up };
        attempt.again_and_again(process.as_ref()).await
    });
    match end.await {
        End::Fenced(process, state) => {
            upkeep::spawn(shared);
            let settings = observe::settings(shared, Some(&*process));
            let state = InstanceState { settings, ..state };
            ControlOutcome::Done { boot_id: process.boot_id().clone(), state }
        }
        End::Exited(boot_id) => ControlOutcome::Exited { boot_id: Some(boot_id) },
        End::Failed { reason, untouched } => shared.give_up(&reason, unsure, untouched),
    }
}

/// The first rung.
struct Attempt<'a> {
    shared: &'a Shared,
    /// Sessions with something unanswered in them.
    unsure: &'a Unsure,
    kill: bool,
    began: Instant,
    until: Instant,
    /// What the setting was last seen to wait for.
    held_up: Mutex<Option<String>>,
}

impl Attempt<'_> {
    /// Tries until it is done, hopeless or out of time.
    async fn again_and_again(&self, process: Option<&Arc<Process>>) -> Rung {
        let mut last = Fault::Silent.to_string();
        let attempts = async {
            loop {
                last = match self.once().await {
                    Ok((process, state)) => return Rung::Fenced(process, state),
                    Err(Problem::Passing(why)) => why,
                    Err(Problem::Lasting(why)) => return Rung::Failed(why),
                    Err(Problem::Hopeless(why)) => return Rung::Untouched(why),
                };
                if Instant::now() >= self.until {
                    return Rung::Failed(self.why(&last));
                }
                sleep(RETRY_PAUSE).await;
            }
        };
        let ended = while_it_lives(process, self.until + RETRY_PAUSE, attempts).await;
        ended.unwrap_or_else(|| Rung::Failed(self.why(&last)))
    }

    /// What held it up says more than that it took too long.
    fn why(&self, last: &str) -> String {
        super::lock(&self.held_up).clone().unwrap_or_else(|| last.to_owned())
    }

    /// One attempt, believed only if it reads back.
    async fn once(&self) -> Result<(Arc<Process>, InstanceState), Problem> {
        let (setter, ender) = tokio::try_join!(
            upkeep::fence_session(self.shared, 0, self.until),
            upkeep::fence_session(self.shared, 1, self.until)
        )?;
        let tried = self.refuse(&setter, &ender).await;
        if let Err(Problem::Passing(_)) = tried {
            // One of them may lead nowhere; the next attempt opens them anew.
            self.shared.abandon_fence(&[&setter, &ender]);
        }
        tried
    }

    async fn refuse(
        &self,
        setter: &Session,
        ender: &Session,
    ) -> Result<(Arc<Process>, InstanceState), Problem> {
        let process = ender.process().ok_or_else(|| Fault::Broken("no process".to_owned()))?;
        self.check_accounts(ender).await?;
        let before = observe::ask_state(ender, &Features::default(), self.until).await?;
        if setter.server().is_mariadb() && before.events {
            // Events of accounts above read-only would write on.
            let off = setter.exec("SET GLOBAL event_scheduler=OFF", self.until).await;
            off.map_err(|fault| self.cannot("switch the event scheduler off", &fault))?;
            self.shared.make(process.boot_id(), |made| made.events_off = true);
        }
        self.set_and_end(setter, ender, &process, before.offline).await?;
        self.see_them_gone(ender, &process).await?;
        if self.shared.made(process.boot_id()).offline {
            // Nobody is kept out for longer than it took.
            ender.exec("SET GLOBAL offline_mode=0", self.until).await?;
            self.shared.make(process.boot_id(), |made| made.offline = false);
        }
        let semi_sync = self.shared.remembered().semi_sync.unwrap_or_default();
        let features = Features { semi_sync, ..Features::default() };
        let told = match observe::ask_state(ender, &features, self.until).await {
            // A plugin has gone: what counts here can be asked without it.
            Err(Fault::Server { .. }) => {
                observe::ask_state(ender, &Features::default(), self.until).await?
            }
            told => told?,
        };
        if told.state.writable || !told.closed {
            return Err(Problem::Passing("it does not read back as fenced".to_owned()));
        }
        Ok((process, told.state))
    }

    /// Accounts that write in spite of read-only cannot be fenced but by the kill. The server is
    /// asked by each fence: one may have got the right since its settings were looked at.
    async fn check_accounts(&self, ender: &Session) -> Result<(), Problem> {
        match above_read_only(ender, self.until).await {
            Ok(above) => self.shared.remember_above(&above),
            // It does not let its rights be read: what was last seen of them counts.
            Err(Fault::Denied(_) | Fault::Server { .. })
                if self.shared.remembered().above.is_some() => {}
            Err(fault) => return Err(self.cannot("tell who may write", &fault)),
        }
        match self.shared.remembered().above.iter().flatten().next() {
            Some(account) => Err(Problem::Hopeless(format!("read_only does not bind {account}"))),
            None => Ok(()),
        }
    }

    fn cannot(&self, what: &str, fault: &Fault) -> Problem {
        match fault {
            Fault::Server { .. } => Problem::Lasting(format!("it does not {what}: {fault}")),
            _ => Problem::Passing(fault.to_string()),
        }
    }

    /// Sets read-only; each time that the server gives up waiting for locks, again.
    async fn set_read_only(&self, setter: &Session) -> Result<(), Problem> {
        loop {
            match setter.exec(&setter.server().close(), self.until).await {
                Ok(()) => return Ok(()),
                Err(Fault::Server {
                    code: code::LOCK_WAIT_TIMEOUT | code::QUERY_INTERRUPTED,
                    ..
                }) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Sets read-only and ends the sessions that may hold that up, until it went through. On the
    /// way MySQL is switched offline, if that alone does not do.
    async fn set_and_end(
        &self,
        setter: &Session,
        ender: &Session,
        process: &Process,
        mut offline: bool,
    ) -> Result<(), Problem> {
        let spared = self.shared.spared();
        let set = self.set_read_only(setter);
        tokio::pin!(set);
        loop {
            let others = sessions::clients(ender, &spared, self.until).await?;
            self.note_what_holds_up(&others);
            let late = self.began.elapsed() > (self.until - self.began) / 3;
            let ended = others.iter().filter(|other| self.may_end(ender, other, late));
            let ended: Vec<u64> = ended.map(|other| other.id).collect();
            // What it does not let end shows in what is left.
            let _refused = sessions::end(ender, &ended, self.until).await;
            if late && !offline && !ender.server().is_mariadb() {
                // Tried once: without the privilege it has to do without.
                offline = true;
                let switched = ender.exec("SET GLOBAL offline_mode=1", self.until).await;
                if !switched.is_err_and(|fault| fault.is_refusal()) {
                    self.shared.make(process.boot_id(), |made| made.offline = true);
                }
            }
            tokio::select! {
                set = &mut set => return set,
                () = sleep(ROUND_PAUSE) => {}
            }
        }
    }

    /// A session whose commit waits for an acknowledgement would commit without one if it were
    /// ended. That is for the last resort of somebody who may not kill.
    fn may_end(&self, ender: &Session, other: &Other, late: bool) -> bool {
        !other.ending
            && (!other.waits_for_copy || (!self.kill && late && ender.server().is_mariadb()))
    }

    /// Commits that wait for a copy hold the setting up for as long as they wait.
    fn note_what_holds_up(&self, others: &[Other]) {
        let waiting = others.iter().filter(|other| other.waits_for_copy).count();
        *super::lock(&self.held_up) = (waiting > 0)
            .then(|| format!("{waiting} commits wait for an acknowledgement of a copy"));
    }

    /// Ends whoever is there, now that nobody can write any more, and sees them gone: those with
    /// unanswered changes for certain, the others at least cut off.
    async fn see_them_gone(&self, ender: &Session, process: &Process) -> Result<(), Problem> {
        let older = self.unsure.of_life(Some(process.boot_id()));
        sessions::end(ender, &older, self.until).await?;
        let clients = sessions::clients(ender, &self.shared.spared(), self.until).await?;
        let there: Vec<u64> =
            clients.iter().filter(|other| !other.ending).map(|other| other.id).collect();
        sessions::end(ender, &there, self.until).await?;
        loop {
            let left = sessions::clients(ender, &[], self.until).await?;
            let is_left = |id: &u64, cut_off_will_do: bool| {
                left.iter().any(|other| other.id == *id && !(cut_off_will_do && other.ending))
            };
            let gone = !older.iter().any(|id| is_left(id, false))
                && !there.iter().any(|id| is_left(id, true));
            if gone {
                return Ok(());
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

impl Shared {
    /// From here on no command that began earlier sends anything, and what is unanswered is
    /// known by session.
    fn begin_fence(&self) -> Unsure {
        let mut sessions = self.sessions();
        sessions.epoch += 1;
        if let Some(control) = sessions.control.take() {
            sessions.remember_unsure(&control);
        }
        std::mem::take(&mut sessions.unsure)
    }

    /// Whom a fence never ends: itself, and the connection that only looks.
    fn spared(&self) -> Vec<u64> {
        let looking = *super::lock(&self.looking);
        let fences = self.sessions().fence.clone();
        looking.into_iter().chain(fences.iter().flatten().map(Session::id)).collect()
    }

    /// Gives connections of the fence up: what was sent over them may yet be carried out.
    fn abandon_fence(&self, given_up: &[&Session]) {
        let mut sessions = self.sessions();
        for session in given_up {
            for slot in &mut sessions.fence {
                if slot.as_ref().is_some_and(|kept| kept.is(session)) {
                    *slot = None;
                }
            }
            // Or an old fence would undo what a later command has done.
            sessions.remember_unsure(session);
        }
    }

    /// Not fenced, and what was sent may yet be carried out.
    fn give_up(&self, reason: &str, unsure: Unsure, untouched: bool) -> ControlOutcome {
        let fences = self.sessions().fence.clone();
        if !untouched {
            self.abandon_fence(&fences.iter().flatten().collect::<Vec<_>>());
        }
        self.sessions().unsure.extend(unsure);
        let error = format!("{}: not fenced: {reason}", self.name);
        ControlOutcome::Failed { error, untouched }
    }
}
