//! Histories of failovers, switchovers, and copies made anew, drawn at random: who has transactions
//! of its own must be told exactly from positions and the one origin that a master record keeps.
//!
//! The model keeps whole logs; a position is what a server would tell of its log. MySQL tells every
//! number of every writer; MariaDB the last of each, and after a copy was made from a backup
//! nothing of what came before the last transaction of that backup. A server made anew writes under
//! a new identity: with its old one it would use numbers again that may stand elsewhere for what
//! was lost, which no position can tell.

use proptest::prelude::*;
use sengu_core::gtid::{GtidSet, GtidState};
use sengu_core::position::{Covering, MariadbPosition, MysqlPosition, Position};

const SERVERS: u32 = 4;

/// One transaction: who wrote it, its number by MySQL (of its writer) and by MariaDB (of all).
/// `tale` tells two of one name apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Transaction {
    writer: u32,
    own: u64,
    all: u64,
    tale: u64,
}

#[derive(Debug, Clone, Default)]
struct Server {
    id: u32,
    log: Vec<Transaction>,
    /// MariaDB knows nothing of what came before this one but the last.
    base: usize,
    /// It wrote for itself, or has what was lost: it does not receive.
    apart: bool,
}

impl Server {
    fn write(&mut self, tale: &mut u64) {
        let me = self.id;
        let own = self.log.iter().filter(|it| it.writer == me).map(|it| it.own).max();
        let all = self.log.iter().map(|it| it.all).max();
        *tale += 1;
        self.log.push(Transaction {
            writer: me,
            own: own.unwrap_or(0) + 1,
            all: all.unwrap_or(0) + 1,
            tale: *tale,
        });
    }

    fn mysql(&self) -> Position {
        let mut set = GtidSet::default();
        for it in &self.log {
            let one = format!("{}:{}", uuid(it.writer), it.own);
            set = set.union(&one.parse().expect("good"));
        }
        Position::Mysql(MysqlPosition { server: uuid(self.id), set })
    }

    fn mariadb(&self) -> Position {
        let known = &self.log[self.base.saturating_sub(1)..];
        let text: Vec<String> =
            known.iter().map(|it| format!("0-{}-{}", it.writer + 1, it.all)).collect();
        let state: GtidState = text.join(",").parse().expect("good");
        Position::Mariadb(MariadbPosition { server: self.id + 1, state })
    }

    fn part_of(&self, other: &Self) -> bool {
        self.log.iter().all(|it| other.log.contains(it))
    }
}

fn uuid(id: u32) -> String {
    format!("{id:08x}-0000-0000-0000-000000000000")
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Receive(usize, usize),
    Errant(usize),
    Switchover(usize),
    Failover,
    MadeAnew(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_usize..4).prop_map(Step::Write),
        4 => (0_usize..4, 1_usize..4).prop_map(|(who, count)| Step::Receive(who, count)),
        1 => (0_usize..4).prop_map(Step::Errant),
        1 => (0_usize..4).prop_map(Step::Switchover),
        1 => Just(Step::Failover),
        1 => (0_usize..4).prop_map(Step::MadeAnew),
    ];
    prop::collection::vec(step, 1..60)
}

struct Model {
    servers: Vec<Server>,
    master: usize,
    origins: [Position; 2],
    tale: u64,
    next: u32,
}

impl Model {
    fn serve(&mut self, master: usize) {
        self.master = master;
        let server = &self.servers[master];
        self.origins = [
            server.mysql().grown_from(&self.origins[0]),
            server.mariadb().grown_from(&self.origins[1]),
        ];
    }

    fn step(&mut self, step: &Step) {
        let master = self.master;
        match *step {
            Step::Write(count) => {
                (0..count).for_each(|_| self.servers[master].write(&mut self.tale));
            }
            Step::Receive(who, count) if who != master && !self.servers[who].apart => {
                let had = self.servers[who].log.len();
                let rest = self.servers[master].log.iter().skip(had).take(count).cloned();
                let rest: Vec<Transaction> = rest.collect();
                self.servers[who].log.extend(rest);
            }
            Step::Errant(who) if who != master => {
                self.servers[who].write(&mut self.tale);
                self.servers[who].apart = true;
            }
            Step::Switchover(to) if to != master && !self.servers[to].apart => {
                self.step(&Step::Receive(to, usize::MAX));
                self.serve(to);
            }
            Step::Failover => {
                let fit = (0..self.servers.len())
                    .filter(|who| *who != master && !self.servers[*who].apart);
                let Some(best) = fit.max_by_key(|who| self.servers[*who].log.len()) else { return };
                self.servers[master].apart =
                    self.servers[master].log.len() > self.servers[best].log.len();
                self.serve(best);
            }
            Step::MadeAnew(who) if who != master => {
                let log = self.servers[master].log.clone();
                self.servers[who] = Server { id: self.next, base: log.len(), log, apart: false };
                self.next += 1;
            }
            _ => {}
        }
    }

    /// The master was made from a backup, and the master before it had more of some writer than
    /// this one took over: of that writer each told the last transaction only, so nobody tells
    /// what they share. Whoever tells of it is taken for strange, never the other way round.
    fn forgot_a_writer(&self) -> bool {
        let master = &self.servers[self.master];
        let Position::Mariadb(origin) = &self.origins[1] else { panic!("it is MariaDB's") };
        let told = origin.state.to_string();
        let tells = |writer: u32| {
            let name = (writer + 1).to_string();
            told.split(',').any(|one| one.split('-').nth(1) == Some(&name))
        };
        master.log[..master.base].iter().any(|it| !tells(it.writer))
    }

    fn check(&self) {
        let master = &self.servers[self.master];
        for server in &self.servers {
            let part = server.part_of(master);
            let positions = [server.mysql(), server.mariadb()];
            let masters = [master.mysql(), master.mariadb()];
            // One that has not come as far as the backup that the other was made from cannot be
            // told from one that never will; the other's log does not reach back to it either.
            let untold = server.log.len() < master.base
                || master.log.len() < server.base
                || self.forgot_a_writer();
            for ((mine, theirs), origin) in positions.iter().zip(&masters).zip(&self.origins) {
                if untold && matches!(mine, Position::Mariadb(_)) {
                    let covers = |a: &Position, b| matches!(a.covers(b), Covering::Covers(_));
                    assert!(part || mine.strays(std::slice::from_ref(origin)).is_some());
                    assert!(part || !covers(theirs, mine));
                    assert!(master.part_of(server) || !covers(mine, theirs));
                    continue;
                }
                let strays = mine.strays(std::slice::from_ref(origin));
                assert_eq!(strays.is_none(), part, "{mine} from {origin}: {strays:?}");
                assert_eq!(mine.part_of(origin), part, "{mine} from {origin}");
                let covers = matches!(theirs.covers(mine), Covering::Covers(_));
                assert_eq!(covers, part, "{theirs} covers {mine}");
                let has_all = matches!(mine.covers(theirs), Covering::Covers(_));
                assert_eq!(has_all, master.part_of(server), "{mine} covers {theirs}");
            }
        }
    }
}

proptest! {
    #[test]
    fn who_has_transactions_of_its_own_is_told_exactly(steps in steps()) {
        let none = Server::default();
        let mut model = Model {
            origins: [none.mysql(), none.mariadb()],
            servers: (0..SERVERS).map(|id| Server { id, ..Server::default() }).collect(),
            master: 0,
            tale: 0,
            next: SERVERS,
        };
        for step in &steps {
            model.step(step);
            model.check();
        }
    }
}
