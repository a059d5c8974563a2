//! `probe = "process"`: is the process behind the instance there and able to run?
//!
//! Reads the board; an answer from the instance proves its process even where the agent may not
//! find it. Refused is not dead: without a process found and without an answer it is unknown.

use std::sync::Arc;

use async_trait::async_trait;
use sengu_core::health::Judged;
use sengu_core::observation::Process;

use super::{Kind, Probe, Scene};

pub(super) const KIND: Kind = Kind { name: "process", read: |_| Some(Arc::new(ProcessProbe)) };

#[derive(Debug)]
struct ProcessProbe;

#[async_trait]
impl Probe for ProcessProbe {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn glance(&self, scene: &Scene<'_>) -> Option<Judged> {
        Some(judge(scene))
    }

    async fn look(&self, scene: &Scene<'_>) -> Judged {
        judge(scene)
    }
}

fn judge(scene: &Scene<'_>) -> Judged {
    let seen = match scene.seen() {
        Ok(seen) => seen,
        Err(unknown) => return unknown,
    };
    let (sent, look) = (seen.sent, seen.observation);
    match look.process {
        Process::Running | Process::Sleeping => Judged::passing(sent, "the process is up"),
        Process::DiskWait => Judged::passing(sent, "the process is up, and waits for a disk"),
        Process::Stopped => Judged::failing(sent, "the process is stopped by a signal"),
        Process::Gone => Judged::failing(sent, "the process has exited"),
        Process::Unknown if look.answer.alive() => {
            Judged::passing(sent, "the instance answers; its process was not found on this host")
        }
        Process::Unknown => Judged::unknown(
            sent,
            "no process was found on this host; the agent needs root to find those of other users",
        ),
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::health::Status;
    use sengu_core::observation::{Answer, Observation};

    use super::super::fixture::Stage;
    use super::*;

    #[test]
    fn the_process_is_judged_by_what_was_seen_of_it() {
        let stage = Stage::default();
        for (process, answer, status) in [
            (Process::Running, Answer::Silent, Status::Passing),
            (Process::Sleeping, Answer::Refused, Status::Passing),
            (Process::DiskWait, Answer::Silent, Status::Passing),
            (Process::Stopped, Answer::Silent, Status::Critical),
            (Process::Gone, Answer::Refused, Status::Critical),
            (Process::Unknown, Answer::Loading, Status::Passing),
            (Process::Unknown, Answer::Refused, Status::Unknown),
            (Process::Unknown, Answer::Silent, Status::Unknown),
        ] {
            stage.put(0, Observation { boot_id: None, answer, process });
            assert_eq!(judge(&stage.scene(100)).status, status, "{process:?}");
        }
    }

    #[test]
    fn an_old_look_is_unknown() {
        let stage = Stage::default();
        assert_eq!(judge(&stage.scene(0)).status, Status::Unknown);
        stage.put(0, Stage::master());
        assert_eq!(judge(&stage.scene(2500)).status, Status::Passing);
        assert_eq!(judge(&stage.scene(2501)).status, Status::Unknown);
    }
}
