//! `probe = "mysql"`: what a MySQL or MariaDB tells of its role, writability and replication.
//!
//! Asks what `probe = "redis"` asks, with the same keys, and knows what these servers have
//! besides: an applier that stopped, commits that wait for an acknowledgement, a disk that is
//! full or read-only. Reads the board's last look and opens no connection of its own.

use std::sync::Arc;

use async_trait::async_trait;
use sengu_core::health::{Judged, Status};
use sengu_core::observation::{Answer, InstanceState, Observation, Role};

use super::keys::Keys;
use super::redis::{RedisProbe, follower, wishes};
use super::{Kind, Probe, Scene};

pub(super) const KIND: Kind = Kind { name: "mysql", read };

/// Numbers of errors that say what is wrong with the machine, and that in words. They stand in
/// an error's text as the driver writes it, `(error 1021)`; the system's own as `errno: 28`.
const TROUBLES: &[(&[&str], &str)] = &[
    (&["(error 1021)", "(error 1114)", "errno: 28", "No space left"], "its disk is full"),
    (&["(error 1836)", "errno: 30", "Read-only file system"], "its file system is read-only"),
    (&["(error 3)", "(error 1026)"], "it cannot write to its disk"),
    (&["(error 1290)", "(error 1792)"], "it takes no writes"),
    (&["(error 1053)"], "it is shutting down"),
    (&["(error 1041)", "(error 1037)", "(error 1038)"], "it is out of memory"),
    (&["(error 23)", "(error 1135)", "errno: 24"], "it is out of files or threads"),
];

#[derive(Debug)]
struct MysqlProbe {
    role: RedisProbe,
}

fn read(keys: &mut Keys<'_>) -> Option<Arc<dyn Probe>> {
    Some(Arc::new(MysqlProbe { role: wishes(keys) }))
}

#[async_trait]
impl Probe for MysqlProbe {
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

impl MysqlProbe {
    fn judge(&self, scene: &Scene<'_>) -> Judged {
        let judged = self.role.judge(scene);
        let Ok(seen) = scene.seen() else { return judged };
        let words = match (&seen.observation, judged.status) {
            (Observation { answer: Answer::Error(text), .. }, Status::Critical) => {
                trouble(text).map(|words| format!("{words}: {text}"))
            }
            (Observation { answer: Answer::State(state), .. }, Status::Passing) => {
                self.wrong(state)
            }
            _ => None,
        };
        words.map_or(judged, |words| Judged::failing(seen.sent, words))
    }

    /// What only these servers can have wrong.
    fn wrong(&self, state: &InstanceState) -> Option<String> {
        match state.role {
            Role::Master => waits(state),
            Role::Replica if !self.role.link => None,
            Role::Replica => {
                let of = follower(state);
                match &state.trouble {
                    Some(text) if state.filtered => Some(format!("{of}: {text}")),
                    Some(text) => {
                        let words = trouble(text).map(|words| format!("{words}: "));
                        let words = words.unwrap_or_default();
                        Some(format!("{of}, its replication stopped: {words}{text}"))
                    }
                    None if state.applier_stopped => Some(format!(
                        "{of}, its applier is stopped: what it receives stays unapplied"
                    )),
                    None => None,
                }
            }
        }
    }
}

/// Commits that nobody will acknowledge. Those that wait while copies are attached only wait.
fn waits(state: &InstanceState) -> Option<String> {
    let semi_sync = state.semi_sync.filter(|semi_sync| semi_sync.waiting > 0)?;
    (semi_sync.clients < semi_sync.awaits.max(1)).then(|| {
        format!(
            "a master whose commits hang: {} wait for an acknowledgement, and {} of {} copies \
             that give one are attached",
            semi_sync.waiting,
            semi_sync.clients,
            semi_sync.awaits.max(1)
        )
    })
}

/// An error's cause in words, where its number tells one.
pub(super) fn trouble(text: &str) -> Option<&'static str> {
    let found = TROUBLES.iter().find(|(marks, _)| marks.iter().any(|mark| text.contains(mark)));
    found.map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use sengu_core::observation::{Process, SemiSync};

    use super::super::fixture::Stage;
    use super::*;

    fn judge(keys: &str, look: Observation) -> (Status, String) {
        let stage = Stage::default();
        stage.put(0, look);
        let check = Stage::check(&format!("[[all]]\nprobe = \"mysql\"\n{keys}"));
        let judged = check.all[0].glance(&stage.scene(100)).expect("reads the board");
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
    fn roles_are_asked_as_of_redis() {
        assert_eq!(
            judge(MASTER, Stage::master()),
            (Status::Passing, "a master, takes writes".into())
        );
        assert_eq!(judge(MASTER, Stage::replica()).0, Status::Critical);
        assert_eq!(judge(REPLICA, Stage::replica()).0, Status::Passing);
        let closed = changed(Role::Master, |state| state.writable = false);
        assert_eq!(judge(MASTER, closed).1, "a master, but it takes no writes");
    }

    #[test]
    fn causes_are_told_apart_in_words() {
        for (text, words) in [
            ("Disk full (/tmp/x); waiting (error 1021)", "its disk is full: Disk full"),
            (
                "Error writing file './x' (errno: 28 \"No space left on device\") (error 3)",
                "its disk",
            ),
            ("Running in read-only mode (error 1836)", "its file system is read-only: Run"),
            ("Error writing file (error 1026)", "it cannot write to its disk: Error"),
            ("Server shutdown in progress (error 1053)", "it is shutting down: Server"),
            ("something else (error 1064)", "error: something else (error 1064)"),
        ] {
            let answer = Answer::Error(text.into());
            let look = Observation { boot_id: None, answer, process: Process::Running };
            let (status, output) = judge(MASTER, look);
            assert!(status == Status::Critical && output.starts_with(words), "{output}");
        }
        let full = Observation {
            boot_id: None,
            answer: Answer::TooManyClients,
            process: Process::Running,
        };
        assert_eq!(judge(MASTER, full).1, "too many clients: it takes no more connections");
    }

    #[test]
    fn an_applier_that_stopped_is_a_broken_link() {
        let of = "a replica of 127.0.0.12:6379";
        let text = "Error 'Disk full' (error 1021)";
        let stopped = || changed(Role::Replica, |state| state.trouble = Some(text.into()));
        let words = format!("{of}, its replication stopped: its disk is full: {text}");
        assert_eq!(judge(REPLICA, stopped()), (Status::Critical, words));
        assert_eq!(judge("role = \"replica\"", stopped()).0, Status::Passing, "not asked");
        let idle = changed(Role::Replica, |state| state.applier_stopped = true);
        assert!(judge(REPLICA, idle).1.contains("its applier is stopped"));
    }

    #[test]
    fn commits_hang_only_if_nobody_is_there_to_acknowledge() {
        let waiting = |clients| {
            changed(Role::Master, move |state| {
                let semi_sync = SemiSync { awaits: 1, waiting: 3, clients, ..SemiSync::default() };
                state.semi_sync = Some(semi_sync);
            })
        };
        assert_eq!(judge(MASTER, waiting(1)).0, Status::Passing);
        let (status, output) = judge(MASTER, waiting(0));
        assert_eq!(status, Status::Critical);
        assert!(output.contains("3 wait for an acknowledgement, and 0 of 1 copies"), "{output}");
    }
}
