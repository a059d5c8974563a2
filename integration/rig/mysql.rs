//! One MySQL or MariaDB server: its folder, its start-fenced option file and its process, and
//! what a test asks it or tells it as its administrator.
//!
//! Replication goes by GTID. A server begins with a copy of a template, so all of them begin
//! with the same data and no history.

pub mod accounts;
pub mod binlog;
pub mod flavour;
pub mod sql;
pub mod template;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

pub use accounts::{ADMIN, CLIENT, REPLICATION, SENGU};
pub use flavour::{Flavour, Setup};
pub use sql::{Login, Record, Sql, Trouble};

use super::process::{Process, Supervision};
use super::scene::Server;
use super::wait::{soon, until};
use super::writer::Writer;

/// The port of all servers.
pub const PORT: u16 = 3306;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a start may take, on a machine that does much else.
const START: Duration = Duration::from_secs(60);

/// A server.
#[derive(Debug)]
pub struct Mysql {
    /// The name of its instance.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its `server_id`.
    pub number: u32,
    /// Its option file.
    pub file: PathBuf,
    /// Which server.
    pub flavour: Flavour,
    administrator: Mutex<Option<Sql>>,
    process: Process,
}

/// Whom a server replicates from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The source.
    pub source: String,
    /// Is it connected and receiving?
    pub receiving: bool,
    /// Does it apply what it received?
    pub applying: bool,
    /// Everything that the server says of it.
    pub all: Record,
}

impl Mysql {
    /// Starts a server in a new folder below this one, and waits until it answers.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(
        parent: &Path,
        name: &str,
        number: u32,
        address: SocketAddr,
        setup: &Setup,
    ) -> Self {
        let server = Self::launch(parent, name, number, address, setup);
        server.wait_answering();
        server
    }

    /// Starts a server in a new folder below this one, and waits for nothing.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn launch(
        parent: &Path,
        name: &str,
        number: u32,
        address: SocketAddr,
        setup: &Setup,
    ) -> Self {
        let folder = parent.join(name);
        let flavour = setup.flavour.clone();
        fs::create_dir_all(folder.join("tmp")).expect("the server's folder can be made");
        let origin = template::folder(&flavour);
        fs::write(folder.join(ORIGIN), origin.display().to_string()).expect("it can be written");
        template::copy(&origin, &folder.join("data")).expect("the data can be copied");
        let file = folder.join("my.cnf");
        fs::write(&file, flavour.options(&folder, address, number, setup))
            .expect("the server's options can be written");
        let seen = flavour.inside(&file);
        let command = flavour.command(&[format!("--defaults-file={}", seen.display())]);
        let process = Process::start(&folder, command, empty);
        let administrator = Mutex::new(None);
        Self { name: name.to_owned(), address, number, file, flavour, administrator, process }
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// If it does not in time, with the end of its log.
    pub fn wait_answering(&self) {
        let up = soon(START, || {
            assert!(!self.exited(), "{} has ended:\n{}", self.name, self.process.tail());
            self.try_ask("SELECT 1").ok()
        });
        assert!(up.is_some(), "{} does not answer:\n{}", self.name, self.process.tail());
    }

    /// Its data folder, as this machine sees it.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.process.folder().join("data")
    }

    /// What happens when its process ends.
    pub fn supervise(&self, supervision: Supervision) {
        self.process.supervise(supervision);
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.process.starts()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Has its process exited?
    #[must_use]
    pub fn exited(&self) -> bool {
        self.process.exited()
    }

    /// SIGKILL. It is gone afterwards, unless a supervisor was faster.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// SIGTERM: it closes its listener, ends its sessions and exits.
    pub fn shut_down(&self) {
        self.process.signal(Signal::TERM);
    }

    /// SIGSTOP; it stands still afterwards.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts it again after its end, with what its disk has, and waits until it answers.
    pub fn restart(&self) {
        self.process.restart();
        self.wait_answering();
    }

    /// The same with its data as at its very first start.
    pub fn restart_emptied(&self) {
        self.process.restart_emptied();
        self.wait_answering();
    }

    /// The same under another `server_id`. MySQL ignores what comes back to it under its own, and
    /// would lack for ever what it had written itself.
    ///
    /// # Panics
    /// If its option file cannot be changed.
    pub fn restart_renewed(&self) {
        let text = fs::read_to_string(&self.file).expect("its options can be read");
        let renewed = text.lines().map(|line| match line.strip_prefix("server-id=") {
            Some(number) => {
                let number: u32 = number.parse().expect("a number");
                format!("server-id={}\n", number + 10)
            }
            None => format!("{line}\n"),
        });
        fs::write(&self.file, renewed.collect::<String>()).expect("its options can be written");
        self.restart_emptied();
    }

    /// A new connection of its administrator.
    ///
    /// # Panics
    /// If there is none to be had.
    #[must_use]
    pub fn connect(&self) -> Sql {
        self.connect_as(ADMIN)
    }

    /// A new connection of an account.
    ///
    /// # Panics
    /// If there is none to be had.
    #[must_use]
    #[track_caller]
    pub fn connect_as(&self, login: Login) -> Sql {
        let connection = Sql::connect(self.address, login, PATIENCE);
        connection.unwrap_or_else(|trouble| panic!("{} as {}: {trouble}", self.name, login.user))
    }

    /// Asks as its administrator, on a connection that is kept while it lasts.
    ///
    /// # Errors
    /// If it refuses, or does not answer.
    pub fn try_ask(&self, statement: &str) -> Result<Vec<Record>, Trouble> {
        let mut kept = self.administrator.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = kept.as_mut() {
            match connection.rows(statement) {
                // It was ended by somebody: the next one is asked.
                Err(Trouble::Lost(_)) => *kept = None,
                answer => return answer,
            }
        }
        let mut connection = Sql::connect(self.address, ADMIN, PATIENCE)?;
        let answer = connection.rows(statement);
        *kept = Some(connection);
        answer
    }

    /// Asks as its administrator.
    ///
    /// # Panics
    /// If it refuses, or does not answer.
    #[track_caller]
    pub fn ask(&self, statement: &str) -> Vec<Record> {
        let answer = self.try_ask(statement);
        answer.unwrap_or_else(|trouble| panic!("{}: {statement}: {trouble}", self.name))
    }

    /// Tells it several things, in order.
    ///
    /// # Panics
    /// If it refuses one, or does not answer.
    #[track_caller]
    pub fn tell(&self, statements: &[&str]) {
        for statement in statements {
            self.ask(statement);
        }
    }

    /// A global variable; empty if it has none of this name or nobody answers.
    #[must_use]
    pub fn variable(&self, name: &str) -> String {
        self.first(&format!("SELECT @@GLOBAL.{name} AS it"), "it")
    }

    /// A status variable; empty if it has none of this name or nobody answers.
    #[must_use]
    pub fn counter(&self, name: &str) -> String {
        self.first(&format!("SHOW GLOBAL STATUS LIKE '{name}'"), "Value")
    }

    fn first(&self, statement: &str, column: &str) -> String {
        let rows = self.try_ask(statement).unwrap_or_default();
        rows.into_iter().next().and_then(|mut row| row.remove(column)).unwrap_or_default()
    }

    /// Whom it replicates from; none if from nobody, or nobody answers.
    #[must_use]
    pub fn link(&self) -> Option<Link> {
        let all = self.try_ask("SHOW REPLICA STATUS").ok()?.into_iter().next()?;
        let field = |names: [&str; 2]| {
            names.iter().find_map(|name| all.get(*name)).cloned().unwrap_or_default()
        };
        let host = field(["Source_Host", "Master_Host"]);
        let port = field(["Source_Port", "Master_Port"]);
        let receiving = field(["Replica_IO_Running", "Slave_IO_Running"]) == "Yes";
        let applying = field(["Replica_SQL_Running", "Slave_SQL_Running"]) == "Yes";
        Some(Link { source: format!("{host}:{port}"), receiving, applying, all })
    }

    /// What it has committed, as GTIDs; for MySQL the executed set, for MariaDB the position of
    /// its binary log.
    #[must_use]
    pub fn executed(&self) -> String {
        let name = if self.flavour.is_mariadb() { "gtid_binlog_pos" } else { "gtid_executed" };
        self.variable(name).replace('\n', "")
    }

    /// The serials of a writer, of the rows that are there. A fence may end the connection; it is
    /// asked again.
    ///
    /// # Panics
    /// If it does not tell within 10 s.
    #[must_use]
    #[track_caller]
    pub fn serials(&self, writer: &str) -> Vec<String> {
        let statement = format!("SELECT serial FROM app.writes WHERE writer = '{writer}'");
        let what = format!("{} tells the rows of {writer}", self.name);
        let rows = until(&what, Duration::from_secs(10), || self.try_ask(&statement).ok());
        rows.into_iter().filter_map(|mut row| row.remove("serial")).collect()
    }

    /// Makes it follow that one.
    pub fn follow(&self, source: SocketAddr) {
        let (host, port) = (source.ip(), source.port());
        let Login { user, password } = REPLICATION;
        let change = if self.flavour.is_mariadb() {
            format!(
                "CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, \
                 MASTER_USER='{user}', MASTER_PASSWORD='{password}', MASTER_CONNECT_RETRY=1, \
                 MASTER_HEARTBEAT_PERIOD=1, MASTER_USE_GTID=slave_pos"
            )
        } else {
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, \
                 SOURCE_USER='{user}', SOURCE_PASSWORD='{password}', SOURCE_CONNECT_RETRY=1, \
                 SOURCE_HEARTBEAT_PERIOD=1, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1"
            )
        };
        self.tell(&["STOP REPLICA", &change, "START REPLICA"]);
    }

    /// Writes one row as its administrator, who is no client that is judged.
    ///
    /// # Panics
    /// If it refuses.
    #[track_caller]
    pub fn write(&self, serial: u64) {
        let values = format!("'hand', {serial}, @@server_id, NOW(6)");
        self.ask(&format!("INSERT INTO app.writes VALUES ({values})"));
    }

    /// Makes it take writes.
    pub fn open(&self) {
        self.ask("SET GLOBAL read_only = OFF");
    }

    /// Makes it refuse writes of accounts without privileges to do so.
    pub fn close(&self) {
        let name = if self.flavour.is_mariadb() { "read_only" } else { "super_read_only" };
        self.ask(&format!("SET GLOBAL {name} = ON"));
    }

    /// Waits until it has all that another one has committed.
    ///
    /// # Panics
    /// If it has not within 10 s.
    pub fn until_has_all_of(&self, other: &Self) {
        let what = format!("{} has all that {} has", self.name, other.name);
        until(&what, Duration::from_secs(10), || self.has_all_of(other).then_some(()));
    }
}

/// The file with the path of the template.
const ORIGIN: &str = "template";

/// Puts the data of its very first start back.
fn empty(folder: &Path) {
    let origin = fs::read_to_string(folder.join(ORIGIN)).expect("its template is known");
    fs::remove_dir_all(folder.join("data")).expect("the data can be removed");
    template::copy(Path::new(&origin), &folder.join("data")).expect("the data can be copied");
}

impl Server for Mysql {
    const SERVICE: &'static str = "foo-mysql";

    fn name(&self) -> &str {
        &self.name
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn writable(&self) -> bool {
        self.variable("read_only") == "0"
    }

    fn follows(&self, master: SocketAddr) -> bool {
        let link = self.link();
        link.is_some_and(|at| at.source == master.to_string() && at.receiving && at.applying)
    }

    fn has_all_of(&self, other: &Self) -> bool {
        let wanted = other.executed();
        !wanted.is_empty() && self.executed() == wanted
    }

    fn restart(&self) {
        self.restart();
    }

    fn serials(&self, writer: &str) -> Vec<String> {
        self.serials(writer)
    }

    fn pinned(key: &str, address: SocketAddr) -> Writer {
        Writer::sql_pinned(key, address)
    }

    fn following(key: &str, dns: SocketAddr, name: &str) -> Writer {
        Writer::sql_following(key, dns, name, PORT)
    }
}
