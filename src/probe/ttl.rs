//! `probe = "ttl"`: somebody else tells how it stands, at least so often.
//!
//! A backup script, a job of cron: who does the work says over HTTP that it went well
//! (`PUT /v1/agent/check/pass/ID`, also `warn` and `fail`). Silence longer than `within` is
//! critical; before the first word it is unknown.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sengu_core::health::Judged;

use super::keys::Keys;
use super::placeholder::fill;
use super::{Kind, Probe, Scene};
use crate::duration;

pub(super) const KIND: Kind = Kind { name: "ttl", read };

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);
/// Bytes of an id.
const ID_MAX: usize = 255;

#[derive(Debug)]
struct TtlProbe {
    id: String,
    within: Duration,
}

fn read(keys: &mut Keys<'_>) -> Option<Arc<dyn Probe>> {
    let id = keys.text("id");
    match &id {
        Some(id) if id.value.is_empty() || id.value.len() > ID_MAX => {
            let message = format!("`id` must have 1 to {ID_MAX} bytes");
            keys.wrong(&id.span, message, None);
        }
        None if !keys.has("id") => keys.missing("id", "\"backup-{service}\""),
        Some(_) | None => {}
    }
    let within = keys.duration("within", SHORTEST..=LONGEST);
    if within.is_none() && !keys.has("within") {
        keys.missing("within", "\"25h\"");
    }
    Some(Arc::new(TtlProbe { id: id?.value, within: within?.value }))
}

#[async_trait]
impl Probe for TtlProbe {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn look(&self, scene: &Scene<'_>) -> Judged {
        let id = fill(&self.id, scene);
        let Some(told) = scene.beats.expect(&id) else {
            return Judged::unknown(scene.now, format!("{id} was not told yet"));
        };
        let age = scene.now.since(told.seen);
        if age > self.within {
            let (age, within) = (duration::format(whole(age)), duration::format(self.within));
            let words = format!("{id} was told {age} ago, longer than {within}: {}", told.output);
            return Judged::failing(scene.now, words);
        }
        let words = if told.output.is_empty() { format!("{id} was told") } else { told.output };
        // It counts as a result of this look, so that the interval alone decides how old it is.
        Judged { status: told.status, output: words, seen: scene.now }
    }
}

fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use sengu_core::health::Status;

    use super::super::fixture::Stage;

    #[tokio::test]
    async fn it_says_what_it_was_told_until_that_is_too_old() {
        let stage = Stage::default();
        let probe =
            Stage::check("[[all]]\nprobe = \"ttl\"\nid = \"backup-{service}\"\nwithin = \"1h\"");
        let look = async |ms: u64| {
            let judged = probe.all[0].look(&stage.scene(ms)).await;
            (judged.status, judged.output)
        };
        let time = |ms: u64| Stage::time(ms);
        assert!(!stage.beats.put(time(0), "backup-foo-redis", Status::Passing, ""), "not yet");
        assert_eq!(look(0).await, (Status::Unknown, "backup-foo-redis was not told yet".into()));
        assert!(stage.beats.put(time(0), "backup-foo-redis", Status::Passing, "12 GiB"));
        assert_eq!(look(3_600_000).await, (Status::Passing, "12 GiB".to_owned()));
        let (status, output) = look(3_601_000).await;
        assert_eq!(status, Status::Critical);
        assert_eq!(output, "backup-foo-redis was told 1h1s ago, longer than 1h: 12 GiB");
        assert!(stage.beats.put(time(3_601_000), "backup-foo-redis", Status::Warning, ""));
        let told = "backup-foo-redis was told".to_owned();
        assert_eq!(look(3_601_500).await, (Status::Warning, told));
        assert!(!stage.beats.put(time(0), "other", Status::Passing, ""));
    }
}
