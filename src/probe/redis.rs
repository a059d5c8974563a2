//! `probe = "redis"`: what a Redis or Valkey tells of its role, writability and link.
//!
//! Reads the board's last look and opens no connection of its own. Each way of not answering has
//! words of its own: slow is not dead, refused is not dead, a full server is not an absent one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sengu_core::health::Judged;
use sengu_core::observation::{Answer, InstanceState, Observation, Process, Role};

use super::keys::Keys;
use super::{Kind, Probe, Scene};
use crate::duration;

pub(super) const KIND: Kind = Kind { name: "redis", read };

/// A replica that was silent for longer than this is not worth a limit.
const LONGEST_LAG: Duration = Duration::from_secs(7 * 86_400);

/// What a database tells of its role; also asked, with more of its own, by `probe = "mysql"`.
#[derive(Debug)]
pub(super) struct RedisProbe {
    role: Option<Role>,
    /// Must take writes, must not, or whatever. A wanted master must, unless told otherwise.
    writable: Option<bool>,
    /// A replica must be connected to its source, and in step.
    pub(super) link: bool,
    /// A replica must have heard its source within.
    max_lag: Option<Duration>,
}

fn read(keys: &mut Keys<'_>) -> Option<Arc<dyn Probe>> {
    Some(Arc::new(wishes(keys)))
}

/// Reads what is asked of an instance; notes what is wrong with the keys.
pub(super) fn wishes(keys: &mut Keys<'_>) -> RedisProbe {
    let roles = [
        ("master", Role::Master),
        ("primary", Role::Master),
        ("replica", Role::Replica),
        ("slave", Role::Replica),
    ];
    let role = keys.choice("role", &roles).map(|placed| placed.value);
    let writable = keys.boolean("writable").map(|placed| placed.value);
    let link = keys.boolean("link");
    let max_lag = keys.duration("max_lag", Duration::ZERO..=LONGEST_LAG);
    if role == Some(Role::Master) {
        let spans = [
            ("link", link.as_ref().map(|placed| &placed.span)),
            ("max_lag", max_lag.as_ref().map(|placed| &placed.span)),
        ];
        for (key, span) in spans {
            if let Some(span) = span {
                let message = format!("`{key}` says nothing about a master");
                keys.wrong(span, message, Some("write `role = \"replica\"`, or drop it".into()));
            }
        }
    }
    RedisProbe {
        role,
        writable: writable.or_else(|| (role == Some(Role::Master)).then_some(true)),
        link: link.is_some_and(|placed| placed.value),
        max_lag: max_lag.map(|placed| placed.value),
    }
}

#[async_trait]
impl Probe for RedisProbe {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn glance(&self, scene: &Scene<'_>) -> Option<Judged> {
        Some(self.judge(scene))
    }

    async fn look(&self, scene: &Scene<'_>) -> Judged {
        self.judge(scene)
    }
}

/// What the state says against the wishes, if anything.
enum Wrong {
    Known(String),
    NotKnown(String),
}

impl RedisProbe {
    /// Judges the board's last look.
    pub(super) fn judge(&self, scene: &Scene<'_>) -> Judged {
        let seen = match scene.seen() {
            Ok(seen) => seen,
            Err(unknown) => return unknown,
        };
        let state = match &seen.observation {
            Observation { process: Process::Gone, .. } => {
                return Judged::failing(seen.sent, "dead: its process has exited");
            }
            Observation { answer: Answer::State(state), .. } => state,
            other => return Judged::failing(seen.sent, trouble(other, scene)),
        };
        match self.wrong(state) {
            Some(Wrong::Known(words)) => Judged::failing(seen.sent, words),
            Some(Wrong::NotKnown(words)) => Judged::unknown(seen.sent, words),
            None => Judged::passing(seen.sent, describe(state)),
        }
    }

    fn wrong(&self, state: &InstanceState) -> Option<Wrong> {
        let known = |words: &str| Some(Wrong::Known(words.into()));
        match (self.role, state.role) {
            (Some(Role::Master), Role::Replica) => {
                return Some(Wrong::Known(format!("{}, not a master", follower(state))));
            }
            (Some(Role::Replica), Role::Master) => return known("a master, not a replica"),
            (None | Some(Role::Master), Role::Master)
            | (None | Some(Role::Replica), Role::Replica) => {}
        }
        match (self.writable, state.writable) {
            (Some(true), false) if state.role == Role::Master => {
                return known("a master, but it takes no writes");
            }
            (Some(true), false) => return known("it takes no writes"),
            (Some(false), true) if state.role == Role::Replica => {
                return known("a replica, but it takes writes");
            }
            (Some(false), true) => return known("it takes writes"),
            (None, _) | (Some(true), true) | (Some(false), false) => {}
        }
        if state.role == Role::Replica { self.wrong_replica(state) } else { None }
    }

    fn wrong_replica(&self, state: &InstanceState) -> Option<Wrong> {
        if self.link && state.syncing {
            return Some(Wrong::Known(format!("{}, copying all data from it", follower(state))));
        }
        if self.link && !state.link_up {
            return Some(Wrong::Known(format!("{}, its link is down", follower(state))));
        }
        if self.link && state.never_synced {
            return Some(Wrong::Known(format!("{}, never had its data", follower(state))));
        }
        let limit = self.max_lag?;
        match state.silent_for {
            Some(silence) if silence > limit => Some(Wrong::Known(format!(
                "{}, has not heard it for {} (limit {})",
                follower(state),
                seconds(silence),
                duration::format(limit)
            ))),
            Some(_) => None,
            None => Some(Wrong::NotKnown(format!(
                "{}, does not tell when it last heard it",
                follower(state)
            ))),
        }
    }
}

/// Why there is no state.
fn trouble(look: &Observation, scene: &Scene<'_>) -> String {
    let timeout = duration::format(scene.target.timeout);
    match &look.answer {
        Answer::Silent => {
            let process = match look.process {
                Process::Running => "its process runs",
                Process::Sleeping => "its process sleeps",
                Process::Stopped => "its process is stopped by a signal",
                Process::DiskWait => "its process waits for a disk",
                Process::Gone => "its process has exited",
                Process::Unknown => "its process was not found",
            };
            format!("slow: no answer within {timeout}, {process}")
        }
        Answer::Refused => format!("refused: nobody listens on {}", scene.target.address),
        Answer::AuthFailed(words) => format!("auth failed: {words}"),
        Answer::TooManyClients => "too many clients: it takes no more connections".into(),
        Answer::Loading => "loading: it reads its data from disk".into(),
        Answer::Busy => "busy: it runs a script".into(),
        Answer::Error(words) => format!("error: {words}"),
        Answer::State(state) => describe(state),
    }
}

fn describe(state: &InstanceState) -> String {
    let writes = if state.writable { "takes writes" } else { "takes no writes" };
    match (state.role, state.silent_for) {
        (Role::Master, _) => format!("a master, {writes}"),
        (Role::Replica, Some(silence)) => {
            format!("{}, {writes}, heard it {} ago", follower(state), seconds(silence))
        }
        (Role::Replica, None) => format!("{}, {writes}", follower(state)),
    }
}

pub(super) fn follower(state: &InstanceState) -> String {
    match state.source {
        Some(source) => format!("a replica of {source}"),
        None => "a replica".into(),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

#[cfg(test)]
mod tests {
    use sengu_core::health::Status;

    use super::super::fixture::Stage;
    use super::*;

    fn judge(keys: &str, look: Observation) -> (Status, String) {
        let stage = Stage::default();
        stage.put(0, look);
        let check = Stage::check(&format!("[[all]]\nprobe = \"redis\"\n{keys}"));
        let judged = check.all[0].glance(&stage.scene(100)).expect("reads the board");
        assert_eq!(judged.seen, Stage::time(0));
        (judged.status, judged.output)
    }

    fn changed(role: Role, change: impl Fn(&mut InstanceState)) -> Observation {
        let mut state = Stage::state(role);
        change(&mut state);
        Stage::answered(state)
    }

    const MASTER: &str = "role = \"master\"";
    const REPLICA: &str = "role = \"replica\"\nlink = true\nmax_lag = \"10s\"";

    #[test]
    fn each_way_of_not_answering_has_words_of_its_own() {
        for (answer, process, words) in [
            (Answer::Silent, Process::Running, "slow: no answer within 500ms, its process runs"),
            (
                Answer::Silent,
                Process::Stopped,
                "slow: no answer within 500ms, its process is stopped by a signal",
            ),
            (Answer::Refused, Process::Sleeping, "refused: nobody listens on 127.0.0.11:6379"),
            (Answer::Refused, Process::Gone, "dead: its process has exited"),
            (Answer::AuthFailed("WRONGPASS".into()), Process::Running, "auth failed: WRONGPASS"),
            (
                Answer::TooManyClients,
                Process::Running,
                "too many clients: it takes no more connections",
            ),
            (Answer::Loading, Process::Running, "loading: it reads its data from disk"),
            (Answer::Busy, Process::Running, "busy: it runs a script"),
            (Answer::Error("connection reset".into()), Process::Running, "error: connection reset"),
        ] {
            let look = Observation { boot_id: None, answer, process };
            assert_eq!(judge(MASTER, look), (Status::Critical, words.into()));
        }
    }

    #[test]
    fn roles_are_told_apart() {
        let passing = |words: &str| (Status::Passing, words.to_owned());
        let failing = |words: &str| (Status::Critical, words.to_owned());
        let of = "a replica of 127.0.0.12:6379";
        assert_eq!(judge(MASTER, Stage::master()), passing("a master, takes writes"));
        assert_eq!(judge("role = \"primary\"", Stage::master()).0, Status::Passing);
        assert_eq!(judge(MASTER, Stage::replica()), failing(&format!("{of}, not a master")));
        let fine = format!("{of}, takes no writes, heard it 1 s ago");
        assert_eq!(judge(REPLICA, Stage::replica()), passing(&fine));
        assert_eq!(judge("role = \"slave\"", Stage::replica()).0, Status::Passing);
        assert_eq!(judge(REPLICA, Stage::master()), failing("a master, not a replica"));
        assert_eq!(judge("", Stage::master()).0, Status::Passing, "any role");
        assert_eq!(judge("", Stage::replica()).0, Status::Passing, "any role");
    }

    #[test]
    fn writes_are_asked_apart_from_the_role() {
        let closed = || changed(Role::Master, |state| state.writable = false);
        let open = || changed(Role::Replica, |state| state.writable = true);
        let failing = |words: &str| (Status::Critical, words.to_owned());
        assert_eq!(judge(MASTER, closed()), failing("a master, but it takes no writes"));
        let tolerant = "role = \"master\"\nwritable = false";
        assert_eq!(judge(tolerant, closed()).0, Status::Passing);
        assert_eq!(judge(tolerant, Stage::master()), failing("it takes writes"));
        assert_eq!(judge("writable = true", Stage::replica()), failing("it takes no writes"));
        let strict = "writable = false";
        assert_eq!(judge(strict, open()), failing("a replica, but it takes writes"));
        assert_eq!(judge(REPLICA, open()).0, Status::Passing, "not asked");
    }

    #[test]
    fn replicas_must_be_in_step_if_asked() {
        let of = "a replica of 127.0.0.12:6379";
        for (look, words) in [
            (changed(Role::Replica, |state| state.link_up = false), "its link is down"),
            (changed(Role::Replica, |state| state.syncing = true), "copying all data from it"),
            (changed(Role::Replica, |state| state.never_synced = true), "never had its data"),
            (
                changed(Role::Replica, |state| state.silent_for = Some(Duration::from_secs(41))),
                "has not heard it for 41 s (limit 10s)",
            ),
        ] {
            let failing = (Status::Critical, format!("{of}, {words}"));
            assert_eq!(judge(REPLICA, look.clone()), failing);
            assert_eq!(judge("role = \"replica\"", look).0, Status::Passing, "not asked");
        }
        let mute = changed(Role::Replica, |state| state.silent_for = None);
        assert_eq!(judge(REPLICA, mute).0, Status::Unknown);
    }

    #[test]
    fn an_old_look_is_unknown_whatever_it_showed() {
        let stage = Stage::default();
        let check = Stage::check("[[all]]\nprobe = \"redis\"\nrole = \"master\"");
        let judge = |ms| check.all[0].glance(&stage.scene(ms)).expect("reads the board");
        assert_eq!(judge(0).status, Status::Unknown);
        stage.put(0, Stage::master());
        assert_eq!(judge(2500).status, Status::Passing);
        assert_eq!(judge(2501).status, Status::Unknown);
        assert_eq!(judge(2600).output, "no fresh look: the last one is 2.6 s old");
    }
}
