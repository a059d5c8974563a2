//! A tiny hand-made world: one agent, a few Redis-like instances, a store that answers at once.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
use sengu_core::event::*;
use sengu_core::kv::*;
use sengu_core::machine::Machine;
use sengu_core::name::*;
use sengu_core::observation::*;
use sengu_core::policy::*;
use sengu_core::position::*;
use sengu_core::record::*;
use sengu_core::time::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
struct Db {
    boot: Option<String>,
    up: bool,
    role_master: bool,
    source: Option<std::net::SocketAddr>,
    pos: RedisPosition,
    never: bool,
    link: bool,
    fence_works: bool,
    promote_works: bool,
    silent: bool,
    process: Process,
}
struct W {
    m: Machine,
    kv: Kv,
    cfg: Config,
    t: u64,
    db: BTreeMap<String, Db>,
    q: VecDeque<Event>,
    store_cut: bool,
    late: Vec<(u64, Event)>,
    log: Vec<String>,
    armed: Vec<Armed>,
    looked: BTreeMap<String, u64>,
    hold_done: bool,
    actions: usize,
}
fn svc() -> ServiceName {
    ServiceName::new("foo").unwrap()
}
fn inst(n: &str) -> InstanceName {
    InstanceName::new(n).unwrap()
}
fn addr(n: &str) -> std::net::SocketAddr {
    format!("127.0.0.1:{}", 7000 + n.as_bytes()[0] as u16).parse().unwrap()
}
fn closed() -> std::net::SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}
fn rp(id: &str, o: u64) -> RedisPosition {
    RedisPosition { id: id.into(), offset: o, second: None }
}
fn rp2(id: &str, o: u64, s: &str, u: u64) -> RedisPosition {
    RedisPosition { id: id.into(), offset: o, second: Some(Ancestor { id: s.into(), until: u }) }
}
fn db(boot: &str, pos: RedisPosition) -> Db {
    Db {
        boot: Some(boot.into()),
        up: true,
        role_master: false,
        source: Some(closed()),
        pos,
        never: false,
        link: false,
        fence_works: true,
        promote_works: true,
        silent: false,
        process: Process::Sleeping,
    }
}
fn follow(boot: &str, of: &str, pos: RedisPosition) -> Db {
    Db { source: Some(addr(of)), link: true, ..db(boot, pos) }
}
fn master(boot: &str, pos: RedisPosition) -> Db {
    Db { role_master: true, source: None, ..db(boot, pos) }
}
fn policy(f: Failover) -> Policy {
    Policy { failover: f, ..Policy::default() }
}
fn config(f: Failover, names: &[&str], judge: Judge) -> Config {
    let instances = names
        .iter()
        .map(|n| (inst(n), InstanceConfig { address: addr(n), zone: None, priority: 100 }))
        .collect();
    let s = ServiceConfig {
        kind: DatabaseKind::Redis,
        policy: policy(f),
        instances,
        hooks: BTreeMap::new(),
    };
    Config {
        host: HostName::new("h1").unwrap(),
        address: "127.0.0.1".parse().unwrap(),
        agent: "agent1".into(),
        start: "start1".into(),
        judge,
        services: BTreeMap::from([(svc(), s)]),
        remembered: BTreeSet::from([svc()]),
    }
}
fn alone() -> Judge {
    Judge::Alone { lease: Duration::from_secs(6) }
}
impl W {
    fn new(cfg: Config, dbs: &[(&str, Db)]) -> Self {
        W {
            m: Machine::new(),
            kv: Kv::new(),
            cfg,
            t: 1_000_000_000,
            db: dbs.iter().map(|(n, d)| ((*n).to_owned(), d.clone())).collect(),
            q: VecDeque::new(),
            store_cut: false,
            late: vec![],
            log: vec![],
            armed: vec![],
            looked: BTreeMap::new(),
            hold_done: false,
            actions: 0,
        }
    }
    fn now(&self) -> Now {
        Now { time: Time(self.t), wall: Wall(1_700_000_000_000 + (self.t / 1000) as i64) }
    }
    fn start(&mut self) {
        self.m = Machine::new();
        self.step(Event::Configured(Arc::new(self.cfg.clone())));
        let entries = self.kv.entries().cloned().collect();
        self.step(Event::Loaded { sent: Time(self.t), revision: self.kv.revision(), entries });
        self.drain();
    }
    fn put(&mut self, key: Key, rec: &impl Record) {
        let a = self
            .kv
            .apply(&Txn {
                then: vec![Op::Put { key, value: rec.encode(), lease: 0 }],
                ..Txn::default()
            })
            .unwrap();
        if !a.changes.is_empty() {
            self.q.push_back(Event::Changed { revision: a.reply.revision, changes: a.changes });
        }
    }
    fn record(
        &mut self,
        term: u64,
        state: MasterState,
        holder: &str,
        boot: &str,
        origins: Vec<RedisPosition>,
    ) {
        let r = MasterRecord {
            format: 1,
            term: Term(term),
            state,
            holder: Holder {
                instance: inst(holder),
                host: HostName::new("h1").unwrap(),
                agent: "agent1".into(),
                boot_id: BootId(boot.into()),
                address: addr(holder),
            },
            promise: sengu_core::lease::promise(self.cfg.judge),
            unproven: vec![],
            origins: origins.into_iter().map(Position::Redis).collect(),
            failed: vec![],
            failovers: vec![],
            since: self.now().wall,
            unknown: Default::default(),
        };
        self.put(key::master(&svc()), &r);
    }
    fn ask(&mut self, id: &str, ask: Ask, term: Option<u64>, stand: Stand) {
        let at = self.now().wall;
        let r = RequestRecord {
            format: 1,
            ask,
            term: term.map(Term),
            by: "root".into(),
            comment: String::new(),
            at,
            until: Wall(at.0 + 60_000),
            stand,
            hooks: BTreeMap::new(),
            unknown: Default::default(),
        };
        self.put(key::request(&svc(), id), &r);
    }
    fn state(&self, n: &str) -> InstanceState {
        let d = &self.db[n];
        InstanceState {
            role: if d.role_master { Role::Master } else { Role::Replica },
            writable: d.role_master,
            source: d.source,
            link_up: d.link,
            syncing: false,
            never_synced: d.never,
            received: Position::Redis(d.pos.clone()),
            applied: Position::Redis(d.pos.clone()),
            silent_for: None,
            priority: 100,
            version: "7".into(),
            settings: Settings { starts_fenced: Verdict::Good, killable: Verdict::Good },
        }
    }
    fn observe(&mut self, n: &str) {
        let d = &self.db[n];
        let answer = if !d.up {
            Answer::Refused
        } else if d.silent {
            Answer::Silent
        } else {
            Answer::State(self.state(n))
        };
        let boot_id = d.boot.clone().map(|b| BootId(b.into()));
        let o = Observation { boot_id, answer, process: d.process };
        self.looked.insert(n.into(), self.t);
        self.q.push_back(Event::Observed {
            instance: InstanceId { service: svc(), instance: inst(n) },
            sent: Time(self.t),
            observation: o,
        });
    }
    fn step(&mut self, e: Event) {
        let acts = self.m.step(self.now(), e);
        for a in acts {
            self.act(a);
        }
    }
    fn drain(&mut self) {
        let mut n = 0;
        while let Some(e) = self.q.pop_front() {
            self.t += 100;
            self.step(e);
            n += 1;
            assert!(n < 200_000, "hot loop");
        }
    }
    fn control(&mut self, n: &str, c: &Command) -> ControlOutcome {
        let fail = |e: &str| ControlOutcome::Failed { error: e.into(), untouched: false };
        let d = self.db.get_mut(n).unwrap();
        if !d.up || d.silent {
            return fail("no answer");
        }
        match c {
            Command::Fence { .. } => {
                if !d.fence_works {
                    return fail("fence");
                }
                d.role_master = false;
                d.source = Some(closed());
                d.link = false;
            }
            Command::Detach => {
                d.role_master = false;
                d.source = Some(closed());
                d.link = false;
            }
            Command::Follow { source } => {
                d.role_master = false;
                d.source = Some(*source);
                d.link = true;
            }
            Command::Promote { .. } => {
                if !d.promote_works {
                    return fail("promote");
                }
                d.role_master = true;
                d.source = None;
                let old = d.pos.clone();
                d.pos = rp2(&format!("{}+", old.id), old.offset, &old.id, old.offset + 1);
            }
            _ => {}
        }
        ControlOutcome::Done {
            boot_id: BootId(self.db[n].boot.clone().unwrap().into()),
            state: self.state(n),
        }
    }
    fn act(&mut self, a: Action) {
        self.actions += 1;
        match a {
            Action::Txn { id, txn, .. } => {
                if self.store_cut {
                    self.late.push((
                        self.t + 700_000,
                        Event::Done {
                            id,
                            outcome: Outcome::Txn(TxnOutcome::Unknown("cut".into())),
                        },
                    ));
                    return;
                }
                let a = self.kv.apply(&txn).unwrap();
                if !a.changes.is_empty() {
                    self.q.push_back(Event::Changed {
                        revision: a.reply.revision,
                        changes: a.changes,
                    });
                }
                self.q.push_back(Event::Done {
                    id,
                    outcome: Outcome::Txn(TxnOutcome::Answered {
                        sent: Time(self.t),
                        reply: a.reply,
                    }),
                });
            }
            Action::Control { id, instance, command, term, .. } => {
                let n = instance.instance.as_str().to_owned();
                let o = self.control(&n, &command);
                let ok = matches!(o, ControlOutcome::Done { .. });
                self.log.push(format!(
                    "{:>8.3} t{term} {n} {command:?} ok={ok}",
                    (self.t - 1_000_000_000) as f64 / 1e6
                ));
                self.q.push_back(Event::Done { id, outcome: Outcome::Control(o) });
            }
            Action::Look { id, .. } => {
                self.q.push_back(Event::Done { id, outcome: Outcome::Look(LookOutcome::Unknown) })
            }
            Action::Hook { id, run } => {
                self.log.push(format!("hook {:?} {}", run.phase, run.term));
                self.q.push_back(Event::Done {
                    id,
                    outcome: Outcome::Hook(HookOutcome::Done {
                        warnings: vec![],
                        output: String::new(),
                    }),
                })
            }
            Action::Watch { instance, boot_id } => {
                if self.db[instance.instance.as_str()].boot.as_deref() != Some(&*boot_id.0)
                    && !self.hold_done
                {
                    self.q.push_back(Event::Exited { instance, boot_id });
                }
            }
            Action::Arm(a) => {
                self.armed = a;
            }
            Action::Say(s) => self.log.push(format!(
                "{:>8.3} say {}",
                (self.t - 1_000_000_000) as f64 / 1e6,
                s.text
            )),
            Action::Observe(i) => {
                let n = i.instance.as_str().to_owned();
                if self.t >= self.looked.get(&n).copied().unwrap_or(0) + 5_000 {
                    self.observe(&n);
                }
            }
            _ => {}
        }
    }
    fn exit(&mut self, n: &str) {
        let d = self.db.get_mut(n).unwrap();
        let boot = d.boot.take().unwrap();
        d.up = false;
        d.role_master = false;
        self.q.push_back(Event::Exited {
            instance: InstanceId { service: svc(), instance: inst(n) },
            boot_id: BootId(boot.into()),
        });
        self.drain();
    }
    fn run(&mut self, secs: f64) {
        let end = self.t + (secs * 1e6) as u64;
        let mut k = 0u64;
        while self.t < end {
            self.t += 50_000;
            let t = self.t;
            let (due, late): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= t);
            self.late = late;
            for (_, e) in due {
                self.q.push_back(e);
            }
            if !self.store_cut {
                self.step(Event::Fresh { sent: Time(self.t) });
            }
            if k % 10 == 0 {
                for n in self.db.keys().cloned().collect::<Vec<_>>() {
                    self.observe(&n);
                }
            }
            k += 1;
            self.q.push_back(Event::Tick);
            self.drain();
        }
    }
    fn rec(&self) -> MasterRecord {
        MasterRecord::decode(&self.kv.get("master/foo").unwrap().value).unwrap()
    }
    fn req(&self, id: &str) -> Stand {
        RequestRecord::decode(&self.kv.get(&key::request(&svc(), id)).unwrap().value).unwrap().stand
    }
    fn show(&self) -> String {
        let r = self.m.report(self.now(), &svc()).unwrap();
        format!(
            "{} term {} holder {:?}\nrefusals {:?}\ndoing {:?}\n{}",
            r.state,
            r.term,
            r.holder,
            r.refusals,
            r.doing,
            self.log.join("\n")
        )
    }
    fn named(&self) -> Option<String> {
        match self.m.catalog().master(&svc(), self.now().time) {
            sengu_core::catalog::Named::Master(n, _) => Some(n.as_str().to_owned()),
            _ => None,
        }
    }
}
fn trio(f: Failover) -> W {
    let mut w = W::new(
        config(f, &["a", "b", "c"], alone()),
        &[
            ("a", master("a1", rp("A", 100))),
            ("b", follow("b1", "a", rp("A", 100))),
            ("c", follow("c1", "a", rp("A", 100))),
        ],
    );
    w.record(1, MasterState::Serving, "a", "a1", vec![rp("A", 0)]);
    w.q.clear();
    w.start();
    w.run(3.0);
    assert_eq!(w.rec().state, MasterState::Serving, "{}", w.show());
    w.log.clear();
    w
}

#[test]
fn t00_sane_failover_works() {
    let mut w = trio(Failover::Auto);
    w.exit("a");
    w.run(5.0);
    assert_eq!(w.rec().holder.instance.as_str(), "b", "{}", w.show());
    assert_eq!(w.named().as_deref(), Some("b"));
}
/// The giver crashes while giving and comes back with another history; the target lacks the last bytes.
#[test]
fn t01_giving_is_left_when_nobody_has_the_position() {
    let mut w = trio(Failover::Auto);
    w.record(
        1,
        MasterState::Giving {
            to: inst("b"),
            position: Position::Redis(rp("A", 200)),
            request: "r".into(),
        },
        "a",
        "a1",
        vec![rp("A", 0)],
    );
    w.ask("r", Ask::Switchover { to: None }, Some(1), Stand::Prepared { to: inst("b") });
    w.exit("a");
    w.db.insert("a".into(), db("a2", rp("Z", 0)));
    w.ask("f", Ask::Failover { to: Some(inst("b")), lossy: true }, Some(1), Stand::Asked);
    w.ask("rel", Ask::Release, Some(1), Stand::Asked);
    let before = w.actions;
    w.run(300.0);
    println!("actions per second {}", (w.actions - before) / 300);
    assert!(
        !matches!(w.rec().state, MasterState::Giving { .. }),
        "giving for 300 s; requests r {:?} f {:?} rel {:?}\n{}",
        w.req("r"),
        w.req("f"),
        w.req("rel"),
        w.show()
    );
}
/// Drained at the incident, undrained after.
#[test]
fn t02_undrain_counts() {
    let mut w = W::new(
        config(Failover::Auto, &["a", "b"], alone()),
        &[("a", master("a1", rp("A", 100))), ("b", follow("b1", "a", rp("A", 100)))],
    );
    w.record(1, MasterState::Serving, "a", "a1", vec![rp("A", 0)]);
    w.q.clear();
    w.start();
    w.run(3.0);
    w.log.clear();
    w.ask("drain-b", Ask::Drain { instance: inst("b") }, None, Stand::Standing);
    w.drain();
    w.exit("a");
    w.run(5.0);
    let a = w
        .kv
        .apply(&Txn { then: vec![Op::Delete(key::request(&svc(), "drain-b"))], ..Txn::default() })
        .unwrap();
    w.q.push_back(Event::Changed { revision: a.reply.revision, changes: a.changes });
    w.run(5.0);
    w.ask("f", Ask::Failover { to: Some(inst("b")), lossy: true }, Some(1), Stand::Asked);
    w.run(65.0);
    assert_eq!(
        w.rec().state,
        MasterState::Serving,
        "undrained, and asked for: {:?}\n{}",
        w.req("f"),
        w.show()
    );
}
/// b serves term 2 for days; a was down all the time and is started (old dump) after b dies.
#[test]
fn t03_a_stale_restarted_copy_does_not_win() {
    let mut w = W::new(
        config(Failover::Auto, &["a", "b"], alone()),
        &[
            ("a", Db { up: false, boot: None, ..db("x", rp("A", 90)) }),
            ("b", master("b1", rp2("B", 9_000_000, "A", 101))),
        ],
    );
    w.record(2, MasterState::Serving, "b", "b1", vec![rp("A", 0), rp2("B", 100, "A", 101)]);
    w.q.clear();
    w.start();
    w.run(3.0);
    w.log.clear();
    w.exit("b");
    w.run(1.0);
    w.db.insert("a".into(), db("a2", rp("A", 90)));
    w.run(3.0);
    let took = w.rec().holder.instance.as_str() == "a";
    // b comes back with its append-only file: all data of term 2, a new history.
    w.db.insert("b".into(), db("b2", rp("R", 1)));
    w.run(5.0);
    assert!(
        !took,
        "the copy of 9 MB ago is master; b is told to follow: source {:?}\n{}",
        w.db["b"].source,
        w.show()
    );
}
/// The host is renamed (its name is the default for `host`).
#[test]
fn t04_a_renamed_host_keeps_its_master() {
    let mut w = trio(Failover::Auto);
    w.cfg.host = HostName::new("h2").unwrap();
    w.start();
    w.run(5.0);
    let open = w.db["a"].role_master;
    w.run(60.0);
    assert!(open, "fenced; named {:?}\n{}", w.named(), w.show());
}
/// The old master comes back taking writes and its fence fails for a while.
#[test]
fn t05_nobody_is_promoted_while_another_copy_is_seen_to_take_writes() {
    let mut w = trio(Failover::Auto);
    // a person promotes c by hand; its fence does not work
    {
        let c = w.db.get_mut("c").unwrap();
        c.role_master = true;
        c.source = None;
        c.fence_works = false;
    }
    w.run(1.0);
    w.exit("a");
    w.run(10.0);
    assert!(!(w.db["b"].role_master && w.db["c"].role_master), "two take writes\n{}", w.show());
}
/// A planned move in manual mode: the target cannot be promoted.
#[test]
fn t06_a_failed_switchover_goes_back_to_the_giver() {
    let mut w = trio(Failover::Manual);
    w.db.get_mut("b").unwrap().promote_works = false;
    w.ask("r", Ask::Switchover { to: Some(inst("b")) }, Some(1), Stand::Asked);
    w.run(120.0);
    assert_eq!(w.rec().state, MasterState::Serving, "request {:?}\n{}", w.req("r"), w.show());
}
/// Three looks failed just before the whole agent stood still for 10 s.
#[test]
fn t07_a_late_agent_does_not_judge_by_what_it_saw_before() {
    let mut w = trio(Failover::Auto);
    w.db.get_mut("a").unwrap().silent = true;
    for _ in 0..3 {
        w.t += 300_000;
        w.observe("a");
        w.drain();
    }
    w.t += 10_000_000;
    w.db.get_mut("a").unwrap().silent = false;
    w.step(Event::Stalled { late: Duration::from_secs(10) });
    let fenced = w.log.iter().any(|l| l.contains("Fence"));
    assert!(!fenced, "{}", w.show());
}
/// Released in an incident, mended by hand, adopted again.
#[test]
fn t08_adoption_forgets_who_failed_before() {
    let mut w = trio(Failover::Auto);
    w.db.get_mut("b").unwrap().promote_works = false;
    w.db.get_mut("c").unwrap().promote_works = false;
    w.exit("a");
    w.run(10.0);
    w.ask("rel", Ask::Release, Some(w.rec().term.0), Stand::Asked);
    w.run(2.0);
    assert_eq!(w.rec().state, MasterState::Unmanaged, "{}", w.show());
    for n in ["b", "c"] {
        w.db.get_mut(n).unwrap().promote_works = true;
    }
    w.db.insert("a".into(), master("a9", rp("N", 1)));
    w.db.insert("b".into(), follow("b1", "a", rp("N", 1)));
    w.db.insert("c".into(), follow("c1", "a", rp("N", 1)));
    w.run(2.0);
    w.ask("ad", Ask::Adopt { master: None }, None, Stand::Asked);
    w.run(5.0);
    assert_eq!(w.rec().state, MasterState::Serving, "{}", w.show());
    w.log.clear();
    w.exit("a");
    w.run(30.0);
    assert_eq!(w.rec().state, MasterState::Serving, "failed {:?}\n{}", w.rec().failed, w.show());
}
/// Shared: the agent restarts, loads, and then the store is cut before the first beat.
#[test]
fn t09_a_restarted_agent_that_cannot_beat_fences() {
    let judge = Judge::Shared { lease: Duration::from_secs(6), fence: Duration::from_secs(2) };
    let mut w = W::new(config(Failover::Auto, &["a"], judge), &[("a", master("a1", rp("A", 100)))]);
    w.record(1, MasterState::Serving, "a", "a1", vec![rp("A", 0)]);
    w.q.clear();
    w.start();
    w.store_cut = true;
    w.run(60.0);
    let fenced = !w.db["a"].role_master;
    assert!(
        fenced || !w.armed.is_empty(),
        "open, and nothing is armed, 60 s after the store was cut\n{}",
        w.show()
    );
}
/// Released between the fence of a switchover and its hand-over.
#[test]
fn t10_release_leaves_a_master_that_takes_writes() {
    let mut w = trio(Failover::Auto);
    w.ask("r", Ask::Switchover { to: Some(inst("b")) }, Some(1), Stand::Prepared { to: inst("b") });
    // until the fence is done
    while let Some(e) = w.q.pop_front() {
        w.t += 100;
        w.step(e);
        if !w.db["a"].role_master {
            break;
        }
    }
    w.ask("rel", Ask::Release, Some(1), Stand::Asked);
    let e = w.q.pop_back().unwrap();
    w.q.push_front(e);
    w.run(5.0);
    assert!(
        w.rec().state != MasterState::Unmanaged || w.db["a"].role_master,
        "{:?}: {:?}\n{}",
        w.rec().state,
        w.req("rel"),
        w.show()
    );
}
/// Taken; the agent restarts and the taker's process hangs.
#[test]
fn t11_taken_ends_when_the_taker_hangs() {
    let mut w = trio(Failover::Auto);
    w.exit("a");
    w.record(2, MasterState::Taken { cause: Cause::ProcessExited }, "b", "b1", vec![rp("A", 0)]);
    w.q.clear();
    w.db.insert("b".into(), Db { silent: true, ..db("b1", rp("A", 100)) });
    w.ask("rel", Ask::Release, Some(2), Stand::Asked);
    w.q.clear();
    w.start();
    w.log.clear();
    w.run(300.0);
    assert!(
        w.log.iter().any(|l| l.contains("b Fence")),
        "request {:?}\n{}",
        w.req("rel"),
        w.show()
    );
}
/// A cache without persistence, alone.
#[test]
fn t12_a_single_empty_copy_takes_again() {
    let mut w =
        W::new(config(Failover::Manual, &["a"], alone()), &[("a", master("a1", rp("A", 100)))]);
    w.record(1, MasterState::Serving, "a", "a1", vec![rp("A", 0)]);
    w.q.clear();
    w.start();
    w.run(3.0);
    w.log.clear();
    w.exit("a");
    w.db.insert("a".into(), Db { never: true, ..db("a2", rp("Z", 1)) });
    w.run(5.0);
    w.ask("f", Ask::Failover { to: Some(inst("a")), lossy: true }, Some(1), Stand::Asked);
    w.run(65.0);
    assert_eq!(w.rec().state, MasterState::Serving, "{:?}\n{}", w.req("f"), w.show());
}
/// Another life listens on the port while the holder's life has not exited (its sessions are open).
#[test]
fn t13_exited_is_written_only_when_it_exited() {
    let mut w = trio(Failover::Auto);
    w.hold_done = true; // the pidfd of a1 never becomes readable
    w.db.insert("a".into(), db("a2", rp("Z", 1)));
    w.run(5.0);
    assert_eq!(w.rec().term.0, 1, "a1 was never seen to exit\n{}", w.show());
}
/// Failover with the last holder gone for good and its file never verified (manual needs none).
#[test]
fn t14_reopened_record_unreadable_is_no_hot_loop() {
    let mut w = trio(Failover::Auto);
    let a =
        w.kv.apply(&Txn {
            then: vec![Op::Put {
                key: key::instance(&svc(), &inst("b")),
                value: Arc::from(&b"{\"format\":2}"[..]),
                lease: 0,
            }],
            ..Txn::default()
        })
        .unwrap();
    w.q.push_back(Event::Changed { revision: a.reply.revision, changes: a.changes });
    let mut n = 0;
    while let Some(e) = w.q.pop_front() {
        w.t += 100;
        w.step(e);
        n += 1;
        if n > 5000 {
            break;
        }
    }
    assert!(n < 5000, "txns as fast as the store answers");
}
/// At start the record of the last life names a master that is long gone.
#[test]
fn t15_a_start_names_nobody_before_it_looked() {
    let mut w = trio(Failover::Auto);
    w.db.insert("a".into(), db("a2", rp("Z", 1)));
    w.m = Machine::new();
    let cfg = Arc::new(w.cfg.clone());
    w.q.clear();
    let _ = w.m.step(w.now(), Event::Configured(cfg));
    let entries = w.kv.entries().cloned().collect();
    let _ =
        w.m.step(w.now(), Event::Loaded { sent: Time(w.t), revision: w.kv.revision(), entries });
    assert_eq!(w.named(), None, "a1 ended before this agent started");
}

/// A store that refuses at once: how many beats in one second of steps?
#[test]
fn t16_beats_that_fail_at_once_are_paced() {
    let judge = Judge::Shared { lease: Duration::from_secs(6), fence: Duration::from_secs(2) };
    let mut w = W::new(config(Failover::Auto, &["a"], judge), &[("a", master("a1", rp("A", 100)))]);
    w.record(1, MasterState::Serving, "a", "a1", vec![rp("A", 0)]);
    w.q.clear();
    w.start();
    w.store_cut = true;
    w.observe("a");
    let mut n = 0;
    let mut events: Vec<Event> = w.q.drain(..).collect();
    while let Some(e) = events.pop() {
        w.t += 100;
        w.step(e);
        n += 1;
        if n > 5000 {
            break;
        }
        events.extend(w.late.drain(..).map(|(_, e)| e));
    }
    assert!(n < 5000, "a txn every 0.1 ms");
}
/// The same, after a restart of the agent: the record is not in the view at all.
#[test]
fn t17_unreadable_record_at_start_is_no_hot_loop() {
    let mut w = trio(Failover::Auto);
    w.kv.apply(&Txn {
        then: vec![Op::Put {
            key: key::instance(&svc(), &inst("b")),
            value: Arc::from(&b"{\"format\":2}"[..]),
            lease: 0,
        }],
        ..Txn::default()
    })
    .unwrap();
    w.m = Machine::new();
    w.step(Event::Configured(Arc::new(w.cfg.clone())));
    let entries = w.kv.entries().cloned().collect();
    w.step(Event::Loaded { sent: Time(w.t), revision: w.kv.revision(), entries });
    for n in ["a", "b", "c"] {
        w.observe(n);
    }
    let mut n = 0;
    while let Some(e) = w.q.pop_front() {
        w.t += 100;
        w.step(e);
        n += 1;
        if n > 5000 {
            break;
        }
    }
    assert!(n < 5000, "txns as fast as the store answers");
}
/// An instance taken out of the configuration after a release still stands in the way of adoption.
#[test]
fn t18_a_removed_instance_does_not_block_adoption() {
    let mut w = trio(Failover::Manual);
    w.exit("a");
    w.run(2.0);
    w.ask("rel", Ask::Release, Some(1), Stand::Asked);
    w.run(2.0);
    assert_eq!(w.rec().state, MasterState::Unmanaged);
    w.db.remove("a");
    w.cfg.services.get_mut(&svc()).unwrap().instances.remove(&inst("a"));
    w.start();
    w.db.insert("b".into(), master("b1", rp("A", 100)));
    w.db.insert("c".into(), follow("c1", "b", rp("A", 100)));
    w.run(2.0);
    w.ask("ad", Ask::Adopt { master: None }, None, Stand::Asked);
    w.run(70.0);
    assert_eq!(w.rec().state, MasterState::Serving, "{:?}\n{}", w.req("ad"), w.show());
}
/// The wall clock stood in the future when failovers were counted.
#[test]
fn t19_failovers_of_the_future_do_not_block() {
    let mut w = trio(Failover::Auto);
    let mut r = w.rec();
    let far = Wall(w.now().wall.0 + 365 * 24 * 3600 * 1000);
    r.failovers = vec![far, far, far];
    w.put(key::master(&svc()), &r);
    w.drain();
    w.exit("a");
    w.run(700.0);
    assert_eq!(w.rec().state, MasterState::Serving, "{}", w.show());
}
/// Shared: adoption was written, its answer was lost, and the store is cut.
#[test]
fn t20_an_adopter_arms_its_fence_before_it_writes() {
    let judge = Judge::Shared { lease: Duration::from_secs(6), fence: Duration::from_secs(2) };
    let mut w = W::new(config(Failover::Auto, &["a"], judge), &[("a", master("a1", rp("A", 100)))]);
    w.start();
    w.run(2.0);
    w.ask("ad", Ask::Adopt { master: None }, None, Stand::Asked);
    let mut guard = 0;
    while w.kv.get("master/foo").is_none() {
        if let Some(e) = w.q.pop_front() {
            w.t += 100;
            w.step(e);
        } else {
            w.t += 50_000;
            w.step(Event::Fresh { sent: Time(w.t) });
            w.observe("a");
            w.q.push_back(Event::Tick);
        }
        guard += 1;
        assert!(guard < 10_000, "{}", w.show());
    }
    // The txn was applied; its answer and all else of the store never come.
    w.q.clear();
    w.store_cut = true;
    w.run(60.0);
    assert!(
        !w.armed.is_empty() || !w.db["a"].role_master,
        "record {:?}; nothing armed\n{}",
        w.rec().promise,
        w.show()
    );
}
