//! Starts `redis-server`, or `valkey-server` where there is one, as child processes on loopback,
//! and speaks to them as a client with one connection.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client as Opener, RedisError, RedisResult, Value};
use sengu_core::observation::Role;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::config::Credentials;
use crate::database::Database;
use crate::database::redis::{RedisConfig, RedisDatabase};
use crate::database::suite::{Bench, Client, Server, Start, Written};

/// Of all servers that these tests start.
pub(super) const PASSWORD: &str = "pa55-of-the-test";

/// What a client waits for an answer.
const ANSWER: Duration = Duration::from_millis(500);

/// One kind of server.
pub(super) struct RedisBench {
    /// Program and first arguments.
    command: Vec<String>,
}

impl RedisBench {
    pub(super) fn redis() -> Self {
        Self { command: vec!["redis-server".to_owned()] }
    }

    /// `SENGU_VALKEY` (program and first arguments) or `valkey-server` in the path.
    pub(super) fn valkey() -> Self {
        let named = std::env::var("SENGU_VALKEY").unwrap_or_else(|_| "valkey-server".to_owned());
        Self { command: named.split_ascii_whitespace().map(str::to_owned).collect() }
    }

    /// Starts a server with more lines in its file.
    pub(super) fn start_with(&self, start: Start, lines: &str) -> RedisServer {
        let mut said = String::new();
        for _ in 0..20 {
            // The port is free now; should another test take it first, the server ends at once.
            let free = TcpListener::bind("127.0.0.1:0").expect("binds");
            let address = free.local_addr().expect("bound");
            drop(free);
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(
                folder.path().join("redis.conf"),
                file(address, start, folder.path(), lines),
            )
            .expect("written");
            match spawn(&self.command, folder.path(), true) {
                Ok(child) => {
                    let command = self.command.clone();
                    let database = database(address, PASSWORD);
                    return RedisServer { command, address, folder, child, database };
                }
                Err(last) => said = last,
            }
        }
        panic!("{:?} did not start on 20 ports; it said: {said}", self.command);
    }
}

fn file(address: SocketAddr, start: Start, folder: &Path, lines: &str) -> String {
    let source = match start {
        Start::Open => String::new(),
        Start::Fenced => "replicaof 127.0.0.1 1\n".to_owned(),
        Start::ReplicaOf(source) => format!("replicaof {} {}\n", source.ip(), source.port()),
    };
    format!(
        "port {}\nbind {}\ndir {}\nsave \"\"\nrequirepass {PASSWORD}\nmasterauth {PASSWORD}\n\
         repl-diskless-sync-delay 0\nenable-debug-command yes\n{source}{lines}\n",
        address.port(),
        address.ip(),
        folder.display()
    )
}

/// Starts a server; with `wait`, until it says that it takes connections. Its last words if it
/// ends before.
fn spawn(command: &[String], folder: &Path, wait: bool) -> Result<Child, String> {
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .arg(folder.join("redis.conf"))
        // The locale of the tests may not exist where the server comes from.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let mut log = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while wait && !line.contains("Ready to accept connections") {
        let said = std::mem::take(&mut line);
        if log.read_line(&mut line).expect("a log") == 0 {
            child.wait().expect("ended");
            return Err(said);
        }
    }
    // Read on, so that it is never held up by a full pipe; ends with it.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Ok(child)
}

/// A driver for that address.
pub(super) fn database(address: SocketAddr, password: &str) -> RedisDatabase {
    login(address, None, password)
}

/// A driver that logs in as a user.
pub(super) fn login(address: SocketAddr, user: Option<&str>, password: &str) -> RedisDatabase {
    RedisDatabase::new(RedisConfig {
        name: "cache1".parse().expect("a name"),
        address,
        credentials: Some(Credentials {
            user: user.map(str::to_owned),
            password: password.to_owned(),
            ..Credentials::default()
        }),
        tls: None,
        fence_runtime: None,
    })
    .expect("no files to read")
}

impl Bench for RedisBench {
    type Server = RedisServer;

    async fn start(&self, start: Start) -> RedisServer {
        self.start_with(start, "")
    }

    fn wrong_login(&self, server: &RedisServer) -> Box<dyn Database> {
        Box::new(database(server.address, "wr0ng-of-the-test"))
    }

    fn passwords(&self) -> Vec<String> {
        vec![PASSWORD.to_owned(), "wr0ng-of-the-test".to_owned()]
    }

    fn exit_takes(&self) -> Duration {
        Duration::from_millis(50)
    }

    fn fenced_role(&self) -> Role {
        Role::Replica
    }
}

/// A running server.
pub(super) struct RedisServer {
    command: Vec<String>,
    address: SocketAddr,
    folder: TempDir,
    child: Child,
    pub(super) database: RedisDatabase,
}

impl RedisServer {
    /// Its folder, with file and data.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts another life, without waiting until it is ready.
    pub(super) fn start_again_unready(&mut self) {
        self.end();
        self.child = spawn(&self.command, self.folder.path(), false).expect("spawned");
    }

    /// Waits for its end.
    pub(super) fn end(&mut self) {
        // Fails only if it has ended already.
        let _ended = self.child.kill();
        self.child.wait().expect("reaped");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Server for RedisServer {
    type Client = RedisClient;

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn database(&self) -> &dyn Database {
        &self.database
    }

    async fn client(&self) -> RedisClient {
        let mut client = RedisClient { address: self.address, connection: None };
        client.ask(&["PING"]).await.expect("connects");
        client
    }

    async fn start_again(&mut self) {
        self.end();
        // Somebody's outgoing connection may hold the port for a moment.
        for _ in 0..20 {
            if let Ok(child) = spawn(&self.command, self.folder.path(), true) {
                self.child = child;
                return;
            }
        }
        panic!("{:?} did not start again on {}", self.command, self.address);
    }
}

/// A client with one connection.
pub(super) struct RedisClient {
    address: SocketAddr,
    connection: Option<MultiplexedConnection>,
}

impl RedisClient {
    /// Sends a command; waits a little for its answer.
    pub(super) async fn ask(&mut self, words: &[&str]) -> RedisResult<Value> {
        self.ask_for(words, ANSWER).await
    }

    /// Sends a command; waits so long for its answer.
    pub(super) async fn ask_for(&mut self, words: &[&str], wait: Duration) -> RedisResult<Value> {
        let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        if self.connection.is_none() {
            let url = format!("redis://:{PASSWORD}@{}", self.address);
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(wait))
                .set_response_timeout(None);
            let opener = Opener::open(url)?;
            self.connection =
                Some(opener.get_multiplexed_async_connection_with_config(&config).await?);
        }
        let connection = self.connection.as_mut().expect("just opened");
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        let answer = timeout(wait, command.query_async(connection)).await;
        let answer = answer.unwrap_or_else(|_| Err(late()));
        if answer.as_ref().is_err_and(RedisError::is_io_error) {
            self.connection = None;
        }
        answer
    }
}

impl Client for RedisClient {
    async fn write(&mut self, key: &str) -> Written {
        match self.ask(&["SET", key, "x"]).await {
            Ok(_) => Written::Acknowledged,
            Err(error) if error.code().is_some() => Written::Refused,
            Err(_) => Written::Unknown,
        }
    }

    async fn has(&mut self, key: &str) -> bool {
        self.ask(&["EXISTS", key]).await.expect("answers") == Value::Int(1)
    }
}
