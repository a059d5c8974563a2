//! `probe = "mysql-write"`: a master takes a write, seen by writing one row.
//!
//! Off unless a check names it, with a table of the operator's own. It writes only where the
//! board's last look saw a master that takes writes, over one connection, one write at a time: a
//! write that hangs is waited for and told as hanging, and no other is sent after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sengu_core::health::Judged;
use sengu_core::name::InstanceId;
use sengu_core::observation::{Answer, InstanceState, Role};
use sengu_core::policy::DatabaseKind;

use super::keys::Keys;
use super::mysql::trouble;
use super::{Kind, Probe, Scene, Target};
use crate::database::mysql::{Writer, Wrote};

pub(super) const KIND: Kind = Kind { name: "mysql-write", read };

/// Letters of the name of a schema or table.
const LONGEST_NAME: usize = 64;

#[derive(Debug)]
struct WriteProbe {
    /// `schema.table`.
    table: String,
    /// One for each instance, made anew when it is reached in another way.
    writers: Mutex<BTreeMap<InstanceId, (Target, Arc<Writer>)>>,
}

fn read(keys: &mut Keys<'_>) -> Option<Arc<dyn Probe>> {
    let Some(table) = keys.text("table") else {
        if !keys.has("table") {
            keys.missing("table", "\"sengu.probe\"");
        }
        return None;
    };
    if !named(&table.value) {
        let message = format!("`table`: {:?} is not a schema and a table", table.value);
        keys.wrong(&table.span, message, Some("write `sengu.probe`".into()));
        return None;
    }
    Some(Arc::new(WriteProbe { table: table.value, writers: Mutex::default() }))
}

/// `schema.table`, of letters that need no thought.
fn named(table: &str) -> bool {
    let good = |name: &str| {
        (1..=LONGEST_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$".contains(&byte))
    };
    table.split_once('.').is_some_and(|(schema, table)| good(schema) && good(table))
}

#[async_trait]
impl Probe for WriteProbe {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn look(&self, scene: &Scene<'_>) -> Judged {
        if scene.target.kind != DatabaseKind::Mysql {
            return Judged::unknown(scene.now, "this probe is for MySQL and MariaDB");
        }
        let seen = match scene.seen() {
            Ok(seen) => seen,
            Err(unknown) => return unknown,
        };
        let state = match &seen.observation.answer {
            Answer::State(state) if state.role == Role::Master && state.writable => state,
            _ => {
                return Judged::passing(scene.now, "nothing to write: no master that takes writes");
            }
        };
        let writer = match self.writer(scene.target) {
            Ok(writer) => writer,
            Err(why) => return Judged::unknown(scene.now, why),
        };
        match writer.write(scene.timeout).await {
            Wrote::Done => Judged::passing(scene.now, format!("a write to {} is done", self.table)),
            Wrote::Closed => Judged::failing(scene.now, "it takes no writes"),
            Wrote::Waits(since) => Judged::failing(scene.now, hangs(state, since.as_secs_f64())),
            Wrote::Failed(text) => {
                let words = trouble(&text).unwrap_or("a write failed");
                Judged::failing(scene.now, format!("{words}: {text}"))
            }
        }
    }
}

/// Why a write hangs, as far as the last look tells.
fn hangs(state: &InstanceState, seconds: f64) -> String {
    let waits = state.semi_sync.is_some_and(|semi_sync| semi_sync.waiting > 0);
    let why = if waits { ": commits wait for an acknowledgement of a copy" } else { "" };
    format!("a write hangs for {seconds:.1} s{why}")
}

impl WriteProbe {
    fn writer(&self, target: &Target) -> Result<Arc<Writer>, String> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, writer)) = writers.get(&target.id)
            && known == target
        {
            return Ok(Arc::clone(writer));
        }
        let writer = Arc::new(Writer::new(
            target.address,
            target.credentials.as_ref(),
            target.tls.as_ref(),
            &self.table,
            &target.id.to_string(),
        )?);
        writers.insert(target.id.clone(), (target.clone(), Arc::clone(&writer)));
        Ok(writer)
    }
}

#[cfg(test)]
mod tests {
    use sengu_core::health::Status;
    use sengu_core::observation::{Observation, SemiSync};

    use super::super::fixture::Stage;
    use super::*;

    async fn judge(look: Observation) -> Judged {
        let mut stage = Stage::default();
        stage.target.kind = DatabaseKind::Mysql;
        stage.target.address = "127.0.0.1:1".parse().expect("an address");
        stage.put(0, look);
        let check = Stage::check("[[all]]\nprobe = \"mysql-write\"\ntable = \"sengu.probe\"");
        assert!(check.all[0].glance(&stage.scene(100)).is_none(), "it asks, so it has no glance");
        check.all[0].look(&stage.scene(100)).await
    }

    #[test]
    fn names_are_two_and_plain() {
        for good in ["sengu.probe", "a.b", "a_1.b$"] {
            assert!(named(good), "{good}");
        }
        for bad in ["probe", "a.b.c", "a.", ".b", "a b.c", "a.`b`", "a.b;"] {
            assert!(!named(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn nothing_is_written_but_on_an_open_master() {
        let replica = judge(Stage::replica()).await;
        assert_eq!(replica.status, Status::Passing);
        assert!(replica.output.contains("nothing to write"), "{}", replica.output);
        let master = judge(Stage::master()).await;
        assert_eq!(master.output, "a write failed: connection refused");
        assert_eq!(master.status, Status::Critical);
    }

    #[test]
    fn a_hanging_write_says_what_it_waits_for() {
        let mut state = Stage::state(Role::Master);
        assert_eq!(hangs(&state, 2.0), "a write hangs for 2.0 s");
        state.semi_sync = Some(SemiSync { waiting: 1, ..SemiSync::default() });
        assert!(hangs(&state, 2.0).ends_with("wait for an acknowledgement of a copy"));
    }
}
