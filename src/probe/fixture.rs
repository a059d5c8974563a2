//! A stage for the tests of probes: one instance, one board, a clock by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sengu_core::name::{HostName, InstanceId, InstanceName, ServiceName};
use sengu_core::observation::{Answer, InstanceState, Observation, Process, Role, Settings};
use sengu_core::policy::{DatabaseKind, Failover};
use sengu_core::position::{Position, RedisPosition};
use sengu_core::time::Time;

use super::definition::{Definition, parse};
use super::{Beats, Scene, Setup, Target};
use crate::board::{Board, Seen};
use crate::view::View;

pub(crate) struct Stage {
    pub(crate) target: Target,
    pub(crate) setup: Setup,
    pub(crate) board: Arc<Board>,
    pub(crate) view: Arc<View>,
    pub(crate) beats: Arc<Beats>,
    pub(crate) timeout: Duration,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            target: Self::target("cache1"),
            setup: Setup {
                host: HostName::new("db1").expect("a name"),
                datacenter: "dc1".into(),
                domain: "sengu".into(),
                resolvers: Vec::new(),
            },
            board: Arc::default(),
            view: Arc::default(),
            beats: Arc::default(),
            timeout: Duration::from_millis(500),
        }
    }
}

impl Stage {
    pub(crate) fn id(instance: &str) -> InstanceId {
        InstanceId {
            service: ServiceName::new("foo-redis").expect("a name"),
            instance: InstanceName::new(instance).expect("a name"),
        }
    }

    pub(crate) fn target(instance: &str) -> Target {
        Target {
            id: Self::id(instance),
            kind: DatabaseKind::Redis,
            address: "127.0.0.11:6379".parse().expect("an address"),
            credentials: None,
            tls: None,
            failover: Failover::External,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
        }
    }

    /// A time so many milliseconds after the stage was set.
    pub(crate) fn time(ms: u64) -> Time {
        Time(1_000_000_000 + ms * 1000)
    }

    pub(crate) fn scene(&self, ms: u64) -> Scene<'_> {
        Scene {
            target: &self.target,
            setup: &self.setup,
            board: &self.board,
            view: &self.view,
            beats: &self.beats,
            interval: Duration::from_secs(1),
            timeout: self.timeout,
            now: Self::time(ms),
        }
    }

    pub(crate) fn put(&self, ms: u64, observation: Observation) {
        let seen = Seen { sent: Self::time(ms), observation };
        self.board.put(self.target.id.clone(), seen);
    }

    pub(crate) fn master() -> Observation {
        Self::answered(Self::state(Role::Master))
    }

    pub(crate) fn replica() -> Observation {
        Self::answered(Self::state(Role::Replica))
    }

    pub(crate) fn answered(state: InstanceState) -> Observation {
        Observation { boot_id: None, answer: Answer::State(state), process: Process::Sleeping }
    }

    /// A healthy instance in this role.
    pub(crate) fn state(role: Role) -> InstanceState {
        let position =
            Position::Redis(RedisPosition { id: "a".repeat(40), offset: 7, second: None });
        let replica = role == Role::Replica;
        let source: SocketAddr = "127.0.0.12:6379".parse().expect("an address");
        InstanceState {
            role,
            writable: !replica,
            source: replica.then_some(source),
            link_up: replica,
            syncing: false,
            never_synced: false,
            received: position.clone(),
            applied: position,
            trouble: None,
            filtered: false,
            denied: false,
            applier_stopped: false,
            semi_sync: None,
            obstacles: Vec::new(),
            silent_for: replica.then_some(Duration::from_secs(1)),
            priority: 100,
            version: "7.0.15".into(),
            settings: Settings::default(),
        }
    }

    /// A check with these probes, read from a file's text.
    pub(crate) fn check(probes: &str) -> Definition {
        Self::written("", probes)
    }

    /// A check with more keys of its own.
    pub(crate) fn written(keys: &str, probes: &str) -> Definition {
        let text = format!("about = \"a test\"\n{keys}\n{probes}");
        match parse("test", "checks/test.toml", &text) {
            Ok(definition) => definition,
            Err(problems) => panic!("{problems:#?}"),
        }
    }
}
