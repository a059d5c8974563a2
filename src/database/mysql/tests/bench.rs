//! Servers with a driver each, and clients that keep one connection.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Row};
use sengu_core::observation::Role;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::server::{Kind, PASSWORD, REPLICATION_PASSWORD};
use crate::config::{Credentials, ReplicationLogin};
use crate::database::Database;
use crate::database::mysql::{MysqlConfig, MysqlDatabase};
use crate::database::suite::{Bench, Client, Server, Start, Written};

/// What a client waits for an answer.
const ANSWER: Duration = Duration::from_millis(500);

/// Until a server takes connections, on a machine that does much else.
const STARTED: Duration = Duration::from_secs(60);

/// One kind of server.
pub(super) struct MysqlBench {
    pub(super) kind: Kind,
}

impl MysqlBench {
    pub(super) fn mariadb() -> Self {
        Self { kind: Kind::Mariadb }
    }

    pub(super) fn mysql() -> Self {
        Self { kind: Kind::Mysql }
    }

    /// Starts a server with more lines in its file.
    pub(super) async fn start_with(&self, start: Start, lines: &str) -> MysqlServer {
        let fenced = match (self.kind, start) {
            (_, Start::Open) => "",
            (Kind::Mariadb, _) => "read_only=ON\n",
            (Kind::Mysql, _) => "read_only=ON\nsuper_read_only=ON\n",
        };
        for _ in 0..10 {
            // The port is free now; should another test take it first, the server ends at once.
            let free = TcpListener::bind("127.0.0.1:0").expect("binds");
            let address = free.local_addr().expect("bound");
            drop(free);
            let folder = self.kind.folder();
            self.kind.write_options(folder.path(), address, &format!("{fenced}{lines}"));
            let child = self.kind.spawn(folder.path());
            let database = database(address, PASSWORD);
            let mut server = MysqlServer { kind: self.kind, address, folder, child, database };
            if server.ready().await {
                server.begin(start).await;
                return server;
            }
        }
        panic!("{:?} did not start on 10 ports", self.kind);
    }
}

/// A driver for that address.
pub(super) fn database(address: SocketAddr, password: &str) -> MysqlDatabase {
    MysqlDatabase::new(MysqlConfig {
        name: "db1".parse().expect("a name"),
        address,
        credentials: Some(Credentials {
            user: Some("sengu".to_owned()),
            password: password.to_owned(),
            replication: Some(ReplicationLogin {
                user: "copy".to_owned(),
                password: REPLICATION_PASSWORD.to_owned(),
            }),
        }),
        tls: None,
        fence_runtime: None,
    })
    .expect("no files to read")
}

impl Bench for MysqlBench {
    type Server = MysqlServer;

    async fn start(&self, start: Start) -> MysqlServer {
        self.start_with(start, "").await
    }

    fn wrong_login(&self, server: &MysqlServer) -> Box<dyn Database> {
        Box::new(database(server.address, "wr0ng-of-the-test"))
    }

    fn passwords(&self) -> Vec<String> {
        let passwords = [PASSWORD, REPLICATION_PASSWORD, "wr0ng-of-the-test"];
        passwords.map(str::to_owned).to_vec()
    }

    fn exit_takes(&self) -> Duration {
        Duration::from_millis(800)
    }

    fn fenced_role(&self) -> Role {
        Role::Master
    }
}

/// A running server.
pub(super) struct MysqlServer {
    pub(super) kind: Kind,
    address: SocketAddr,
    folder: TempDir,
    child: Child,
    pub(super) database: MysqlDatabase,
}

impl MysqlServer {
    /// Waits until it takes connections; false if it ended.
    async fn ready(&mut self) -> bool {
        let until = Instant::now() + STARTED;
        loop {
            if self.child.try_wait().expect("a child").is_some() {
                return false;
            }
            if connect(self.address, "root", "", STARTED).await.is_ok() {
                return true;
            }
            assert!(Instant::now() < until, "never ready; it said: {}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Gives a new server what it begins with.
    async fn begin(&self, start: Start) {
        let mut root = self.root().await;
        match start {
            Start::Open => {
                let app = "CREATE DATABASE app; CREATE TABLE app.kept (k VARCHAR(100) PRIMARY KEY)";
                root.exec(app).await;
            }
            Start::Fenced => {}
            Start::ReplicaOf(source) => {
                root.exec(&self.follow(source)).await;
                root.exec("START REPLICA").await;
            }
        }
    }

    /// The statement that names its source.
    pub(super) fn follow(&self, source: SocketAddr) -> String {
        let (ip, port) = (source.ip(), source.port());
        let password = REPLICATION_PASSWORD.replace('\'', "''");
        match self.kind {
            Kind::Mariadb => format!(
                "CHANGE MASTER TO MASTER_HOST='{ip}', MASTER_PORT={port}, MASTER_USER='copy', \
                 MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos, \
                 MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=0.4"
            ),
            Kind::Mysql => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{ip}', SOURCE_PORT={port}, \
                 SOURCE_USER='copy', SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, \
                 SOURCE_CONNECT_RETRY=1, SOURCE_HEARTBEAT_PERIOD=0.4, GET_SOURCE_PUBLIC_KEY=1"
            ),
        }
    }

    /// Its data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A connection of its administrator.
    pub(super) async fn root(&self) -> MysqlClient {
        MysqlClient::new(self.address, "root", "").connected().await
    }

    /// A connection of an account.
    pub(super) async fn login(&self, user: &str, password: &str) -> MysqlClient {
        MysqlClient::new(self.address, user, password).connected().await
    }

    /// A connection of an account, if there is one to be had.
    pub(super) async fn try_login(&self, user: &str, password: &str) -> Option<MysqlClient> {
        let mut client = MysqlClient::new(self.address, user, password);
        client.ask_for("DO 0", STARTED).await.ok().map(|_| client)
    }

    /// Waits for its end.
    pub(super) fn end(&mut self) {
        // Fails only if it has ended already.
        let _ended = self.child.kill();
        self.child.wait().expect("reaped");
    }
}

impl Drop for MysqlServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(15).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            let _unheard = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("{} said last:\n{}\n", self.address, last.join("\n")).as_bytes(),
            );
        }
        self.end();
    }
}

impl Server for MysqlServer {
    type Client = MysqlClient;

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn database(&self) -> &dyn Database {
        &self.database
    }

    async fn client(&self) -> MysqlClient {
        self.login("app", "app").await
    }

    async fn start_again(&mut self) {
        self.end();
        for _ in 0..10 {
            self.child = self.kind.spawn(self.folder.path());
            if self.ready().await {
                return;
            }
        }
        panic!("it did not start again; it said: {}", self.log());
    }
}

async fn connect(
    address: SocketAddr,
    user: &str,
    password: &str,
    wait: Duration,
) -> Result<Conn, Option<Error>> {
    let options = OptsBuilder::default()
        .ip_or_hostname(address.ip().to_string())
        .tcp_port(address.port())
        .user(Some(user))
        .pass(Some(password))
        .prefer_socket(false)
        .max_allowed_packet(Some(1 << 24))
        .wait_timeout(Some(28_800));
    match timeout(wait, Conn::new(options)).await {
        Ok(connected) => connected.map_err(Some),
        Err(_) => Err(None),
    }
}

/// A client with one connection.
pub(super) struct MysqlClient {
    address: SocketAddr,
    user: String,
    password: String,
    connection: Option<Conn>,
}

impl MysqlClient {
    fn new(address: SocketAddr, user: &str, password: &str) -> Self {
        Self { address, user: user.to_owned(), password: password.to_owned(), connection: None }
    }

    async fn connected(mut self) -> Self {
        self.ask_for("DO 0", STARTED).await.expect("connects");
        self
    }

    /// Its id on the server.
    pub(super) fn id(&self) -> u64 {
        u64::from(self.connection.as_ref().expect("connected").id())
    }

    /// Asks; waits so long for the answer, an hour if it is told nothing. `None`: no answer.
    pub(super) async fn ask_for(
        &mut self,
        sql: &str,
        wait: Duration,
    ) -> Result<Vec<Row>, Option<Error>> {
        if self.connection.is_none() {
            self.connection = Some(connect(self.address, &self.user, &self.password, wait).await?);
        }
        let connection = self.connection.as_mut().expect("just opened");
        let answered = async {
            let mut result = connection.query_iter(sql).await?;
            let mut rows = Vec::new();
            loop {
                while let Some(row) = result.next().await? {
                    rows.push(row);
                }
                if result.is_empty() {
                    return Ok(rows);
                }
            }
        };
        let answer = match timeout(wait, answered).await {
            Ok(answer) => answer.map_err(Some),
            Err(_) => Err(None),
        };
        let lost = |error: &Option<Error>| error.as_ref().is_none_or(was_cut_off);
        if answer.as_ref().is_err_and(lost) {
            self.connection = None;
        }
        answer
    }

    /// Carries a statement out, which must succeed.
    pub(super) async fn exec(&mut self, sql: &str) {
        let done = self.ask_for(sql, STARTED).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The first column of the first row, as text.
    pub(super) async fn value(&mut self, sql: &str) -> String {
        let rows = self.ask_for(sql, STARTED).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let row = rows.into_iter().next().unwrap_or_else(|| panic!("{sql}: no row"));
        row.get::<Option<String>, _>(0).flatten().unwrap_or_default()
    }
}

/// The connection is gone, or was killed by the server: nobody knows what became of the statement.
fn was_cut_off(error: &Error) -> bool {
    match error {
        Error::Server(error) => matches!(error.code, 1053 | 1317 | 1927 | 3168),
        _ => true,
    }
}

impl Client for MysqlClient {
    async fn write(&mut self, key: &str) -> Written {
        let insert = format!("INSERT INTO app.kept VALUES ('{key}')");
        let create = "CREATE DATABASE IF NOT EXISTS app; \
                      CREATE TABLE IF NOT EXISTS app.kept (k VARCHAR(100) PRIMARY KEY)";
        let mut answer = self.ask_for(&insert, ANSWER).await;
        if let Err(Some(Error::Server(error))) = &answer
            && matches!(error.code, 1049 | 1146)
        {
            answer = match self.ask_for(create, ANSWER).await {
                Ok(_) => self.ask_for(&insert, ANSWER).await,
                refused => refused,
            };
        }
        match answer {
            Ok(_) => Written::Acknowledged,
            Err(Some(error)) if !was_cut_off(&error) => Written::Refused,
            Err(_) => Written::Unknown,
        }
    }

    async fn has(&mut self, key: &str) -> bool {
        let sql = format!("SELECT COUNT(*) FROM app.kept WHERE k = '{key}'");
        self.value(&sql).await == "1"
    }
}
