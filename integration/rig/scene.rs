//! The usual scene: the servers of one service on one host, and its agent, whatever database it
//! is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use super::agent::{Agent, Told};
use super::place::Place;
use super::process::{Process, Supervision};
use super::writer::Writer;

/// What a scene asks of a server.
pub trait Server {
    /// The service that servers of this kind make up.
    const SERVICE: &'static str;

    /// The name of its instance.
    fn name(&self) -> &str;
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// Its process.
    fn process(&self) -> &Process;
    /// Has its process exited?
    fn exited(&self) -> bool {
        self.process().exited()
    }
    /// Does it answer, and take writes?
    fn writable(&self) -> bool;
    /// Is it a replica of that one, in step?
    fn follows(&self, master: SocketAddr) -> bool;
    /// Has it applied all that the other one has?
    fn has_all_of(&self, other: &Self) -> bool;
    /// SIGKILL. It is gone afterwards, unless a supervisor was faster.
    fn kill(&self) {
        self.process().kill();
    }
    /// SIGSTOP; it stands still afterwards.
    fn stop(&self) {
        self.process().stop();
    }
    /// SIGCONT.
    fn resume(&self) {
        self.process().resume();
    }
    /// What happens when its process ends.
    fn supervise(&self, supervision: Supervision) {
        self.process().supervise(supervision);
    }
    /// Starts it again after its end, with what its disk has, and waits until it answers.
    fn restart(&self);
    /// The serials of a writer, of the writes that are there.
    fn serials(&self, writer: &str) -> Vec<String>;
    /// A client that always writes to this address.
    fn pinned(key: &str, address: SocketAddr) -> Writer;
    /// A client that follows this name, which this DNS server answers.
    fn following(key: &str, dns: SocketAddr, name: &str) -> Writer;
}

/// Servers and their agent. The first server is the first master.
#[derive(Debug)]
pub struct Scene<S> {
    // Ends before the servers do.
    /// The agent.
    pub agent: Agent,
    /// The servers.
    pub servers: Vec<S>,
    /// The configuration as it was written.
    pub config: String,
    /// Where all this is.
    pub place: Place,
}

impl<S: Server> Scene<S> {
    /// The name of the master.
    #[must_use]
    pub fn master_name() -> String {
        format!("master.{}.service.dc1.consul", S::SERVICE)
    }

    /// A client that always writes to one server.
    #[must_use]
    pub fn pinned(&self, key: &str, address: SocketAddr) -> Writer {
        S::pinned(key, address)
    }

    /// A client that follows the name of the master.
    #[must_use]
    pub fn following(&self, key: &str) -> Writer {
        S::following(key, self.agent.dns, &Self::master_name())
    }

    /// Adopts and waits until the name answers.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn adopt(&self) {
        let within = Duration::from_secs(15);
        self.agent.until_status(S::SERVICE, "all instances were looked at", within, |status| {
            let instances = status["instances"].as_array().map_or(&[][..], Vec::as_slice);
            let up = instances.iter().filter(|instance| instance["health"] == "up").count();
            up == self.servers.len()
        });
        // On a machine that does much else a look may come too late; a person asks again.
        let mut told = self.agent.sengu(&["adopt", S::SERVICE, "--wait", "15"]);
        for _ in 0..5 {
            if told.code == Some(0) || !told.err.contains("no answer in time") {
                break;
            }
            told = self.agent.sengu(&["adopt", S::SERVICE, "--wait", "15"]);
        }
        told.good();
        self.until_master(&self.servers[0], Duration::from_secs(2));
    }

    /// A server by its name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn server(&self, name: &str) -> &S {
        let found = self.servers.iter().find(|server| server.name() == name);
        found.unwrap_or_else(|| panic!("there is no server {name}"))
    }

    /// Who is named as master now.
    #[must_use]
    pub fn named(&self) -> Option<&S> {
        match self.agent.addresses(&Self::master_name())[..] {
            [one] => self.servers.iter().find(|server| server.address().ip() == one),
            _ => None,
        }
    }

    /// Waits until somebody else than this one is named.
    ///
    /// # Panics
    /// If nobody is in time.
    #[track_caller]
    pub fn until_other(&self, than: &S, within: Duration) -> &S {
        self.until(&format!("another than {} is named", than.name()), within, || {
            self.named().filter(|named| named.address() != than.address())
        })
    }

    /// Waits until this one is named as the master.
    #[track_caller]
    pub fn until_master(&self, server: &S, within: Duration) {
        self.agent.until_name(&Self::master_name(), &[server.address().ip()], within);
    }

    /// Waits until all others that run follow this one.
    ///
    /// # Panics
    /// If they do not in time.
    #[track_caller]
    pub fn until_followed(&self, master: &S, within: Duration) {
        let others = self.servers.iter().filter(|other| other.address() != master.address());
        for other in others.filter(|other| !other.exited()) {
            let what = format!("{} follows {}", other.name(), master.name());
            self.until(&what, within, || other.follows(master.address()).then_some(()));
        }
    }

    /// Exactly one takes writes, and it is the one that is named.
    #[must_use]
    pub fn writable(&self) -> Vec<SocketAddr> {
        let open = self.servers.iter().filter(|server| server.writable());
        open.map(|server| server.address()).collect()
    }

    /// Their addresses, without ports.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        self.servers.iter().map(|server| server.address().ip()).collect()
    }

    /// Waits until the agent has seen all others that run follow the one that is named, and
    /// nothing is asked, under way or wrong.
    ///
    /// # Panics
    /// If it has not in time.
    #[track_caller]
    pub fn until_settled(&self, within: Duration) {
        self.agent.until_status(S::SERVICE, "nothing is wrong or under way", within, settled);
    }

    /// Waits for something, and shows what the agent thinks if it does not come.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn until<T>(&self, what: &str, within: Duration, look: impl FnMut() -> Option<T>) -> T {
        super::soon(within, look).unwrap_or_else(|| {
            panic!(
                "waited {} s in vain until {what}:\n{}\n{}",
                within.as_secs_f64(),
                self.agent.sengu(&["explain", S::SERVICE]).all(),
                self.agent.tail()
            )
        })
    }

    /// Who was master, term by term, as the history tells it.
    #[must_use]
    #[track_caller]
    pub fn masters(&self) -> Vec<SocketAddr> {
        let told = self.agent.sengu(&["history", S::SERVICE, "--json", "--limit", "1000"]).good();
        let told = told.json();
        let terms = told.as_array().into_iter().flatten().rev();
        let names = terms.filter_map(|entry| entry["to"].as_str());
        names.map(|name| self.server(name).address()).collect()
    }

    /// The steady state: one named, it alone takes writes, all others follow it, nothing is
    /// under way and nothing is wrong.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn until_steady(&self, within: Duration) -> &S {
        self.until("all is steady", within, || {
            let settled = settled(&self.agent.status(S::SERVICE));
            let master = self.named().filter(|_| settled)?;
            let others = self.servers.iter().filter(|other| other.address() != master.address());
            let mut others = others.filter(|other| !other.exited());
            let steady = self.writable() == [master.address()]
                && others.all(|other| other.follows(master.address()));
            steady.then_some(master)
        })
    }

    /// Asks for a switchover.
    #[track_caller]
    pub fn switchover(&self, words: &[&str]) -> Told {
        self.agent.sengu(&[&["switchover", S::SERVICE, "--wait", "15"], words].concat())
    }
}

/// Nothing is asked, under way or wrong.
#[must_use]
pub fn settled(status: &Value) -> bool {
    let none = |key: &str| status[key].as_array().is_some_and(Vec::is_empty);
    none("problems") && none("requests") && status["doing"].is_null()
}
