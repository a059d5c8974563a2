//! Real servers for the tests of verdicts: a MariaDB, or a MySQL in a tree of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use super::super::super::connection::{Dialer, Session};
use super::super::super::server::Flavour;
use super::super::super::write::Writer;
use super::super::accounts::above_read_only;
use super::super::{Above, Judge, Subject, Verdicts};
use crate::config::Credentials;
use crate::process::Process;

const PASSWORD: &str = "s3cret";

/// A server comes up, or goes down, within this.
const START_WAIT: Duration = Duration::from_secs(60);

const ASK_WAIT: Duration = Duration::from_secs(20);

/// Lines of an option file that are right on either server.
const COMMON: &str = "user=root\nserver-id=7\nlog-bin=binlog\nsync_binlog=1\n\
    innodb_flush_log_at_trx_commit=1\nsync_relay_log=1\nrelay-log=relay\nskip-name-resolve\n\
    innodb-buffer-pool-size=16M\ninnodb-buffer-pool-dump-at-shutdown=OFF\n\
    innodb-buffer-pool-load-at-startup=OFF\n";

/// What differs between the servers.
pub(super) trait Server {
    /// Below which folder its paths begin.
    fn root() -> PathBuf;
    /// Makes a data folder, all paths as the server sees them.
    fn initialise(data: &Path) -> Command;
    /// Its program, before its arguments.
    fn program() -> Command;
    /// Lines of its option file.
    const LINES: &str;
    /// Makes the accounts.
    const ACCOUNTS: &str;
}

/// The distribution's own.
pub(super) struct Maria;

impl Server for Maria {
    fn root() -> PathBuf {
        "/".into()
    }

    fn initialise(data: &Path) -> Command {
        let mut command = Command::new("mariadb-install-db");
        command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--user=root"]);
        command.arg("--skip-test-db").arg(format!("--datadir={}", data.display()));
        command
    }

    fn program() -> Command {
        bound_to_this_thread("/usr/sbin/mariadbd")
    }

    const LINES: &str = "read_only=ON\ngtid_strict_mode=1\nlog_slave_updates=1\n\
        slave_net_timeout=4\nrpl_semi_sync_master_wait_point=AFTER_SYNC\n\
        innodb-log-file-size=8M\nperformance-schema=OFF\n";

    const ACCOUNTS: &str = "CREATE USER sengu@'%' IDENTIFIED BY 's3cret'; \
        GRANT PROCESS, RELOAD, BINLOG MONITOR, SLAVE MONITOR, REPLICATION SLAVE ADMIN, \
        REPLICATION MASTER ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN, BINLOG ADMIN ON *.* \
        TO sengu@'%'; GRANT SELECT ON mysql.global_priv TO sengu@'%'; \
        GRANT SELECT ON mysql.roles_mapping TO sengu@'%'";
}

/// MySQL, in its tree.
pub(super) struct My;

impl Server for My {
    fn root() -> PathBuf {
        let tree = std::env::var_os("SENGU_MYSQL_TREE").map(PathBuf::from);
        let tree = tree.unwrap_or_else(|| {
            let home = std::env::var_os("HOME").expect("a home folder");
            Path::new(&home).join(".cache/sengu-servers/mysql")
        });
        assert!(tree.join("usr/sbin/mysqld").exists(), "no MySQL in {}", tree.display());
        tree
    }

    fn initialise(data: &Path) -> Command {
        let mut command = Command::new("chroot");
        command.arg(Self::root()).args(["/usr/sbin/mysqld", "--no-defaults", "--user=root"]);
        command.args(["--initialize-insecure", "--secure-file-priv=NULL"]);
        command.arg(format!("--datadir={}", data.display()));
        command
    }

    fn program() -> Command {
        let mut command = bound_to_this_thread("chroot");
        command.arg(Self::root()).arg("/usr/sbin/mysqld");
        command
    }

    const LINES: &str = "super_read_only=ON\ngtid_mode=ON\nenforce_gtid_consistency=ON\n\
        log_replica_updates=ON\nreplica_net_timeout=4\nmysqlx=OFF\nsecure-file-priv=NULL\n\
        innodb-redo-log-capacity=16M\nmax-connections=30\ntable-open-cache=200\n\
        performance-schema-instrument='%=OFF'\n";

    const ACCOUNTS: &str = "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'; \
        INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'; \
        CREATE USER sengu@'%' IDENTIFIED BY 's3cret'; \
        GRANT PROCESS, RELOAD, REPLICATION CLIENT, SYSTEM_VARIABLES_ADMIN, \
        REPLICATION_SLAVE_ADMIN, CONNECTION_ADMIN, XA_RECOVER_ADMIN, SYSTEM_USER ON *.* \
        TO sengu@'%'; GRANT SELECT ON performance_schema.* TO sengu@'%'";
}

/// The agent's account.
fn credentials() -> Credentials {
    Credentials { user: Some("sengu".into()), password: PASSWORD.into(), ..Credentials::default() }
}

/// Ends with the thread that starts it, should that not come to end it.
fn bound_to_this_thread(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// One server, and what judges it.
pub(super) struct Bench<S: Server> {
    folder: TempDir,
    address: SocketAddr,
    child: Option<Child>,
    session: Option<Session>,
    judge: Judge,
    server: std::marker::PhantomData<S>,
}

impl<S: Server> Bench<S> {
    /// A new server with its accounts, all settings right.
    pub(super) async fn start() -> Self {
        let below = S::root().join(if S::root() == Path::new("/") { "tmp" } else { "srv" });
        let folder = tempfile::Builder::new().prefix("sengu").tempdir_in(below).expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let judge = Judge::default();
        let server = std::marker::PhantomData;
        let mut bench = Self { folder, address, child: None, session: None, judge, server };
        let made = S::initialise(&bench.inside("data"))
            // Each server empties its folder of leftovers when it starts.
            .env("TMPDIR", bench.inside(""))
            .stdin(Stdio::null())
            .output();
        let made = made.expect("the server is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        bench.write("");
        bench.launch();
        bench.wait_for_socket();
        bench.root(S::ACCOUNTS);
        bench.connect().await;
        bench
    }

    /// A path in its folder, as the server sees it.
    fn inside(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let below = path.strip_prefix(S::root()).expect("stands below the root");
        Path::new("/").join(below)
    }

    /// Writes its option file, with one more line.
    pub(super) fn write(&self, line: &str) {
        let at = |name: &str| self.inside(name).display().to_string();
        let text = format!(
            "[mysqld]\n{COMMON}{}datadir={}\nsocket={}\npid-file={}\nlog-error={}\n\
             bind-address={}\nport={}\n{line}\n",
            S::LINES,
            at("data"),
            at("sock"),
            at("pid"),
            at("log"),
            self.address.ip(),
            self.address.port()
        );
        fs::write(self.folder.path().join("my.cnf"), text).expect("written");
    }

    fn launch(&mut self) {
        let mut command = S::program();
        command.arg(format!("--defaults-file={}", self.inside("my.cnf").display()));
        command.env("TMPDIR", self.inside(""));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("the server starts"));
    }

    fn wait_for_socket(&self) {
        let until = std::time::Instant::now() + START_WAIT;
        while self.client("SELECT 1").is_err() {
            assert!(std::time::Instant::now() < until, "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn connect(&mut self) {
        let dialer = Dialer::new(Some(&credentials()), None).expect("no files");
        let session = dialer.open(self.address, "test", Instant::now() + ASK_WAIT).await;
        self.session = Some(session.expect("let in"));
    }

    /// Ends it, and starts it with its file as it is now.
    pub(super) async fn restart(&mut self) {
        self.session = None;
        self.client("SHUTDOWN").expect("ends");
        self.child.take().expect("runs").wait().expect("ended");
        self.launch();
        self.wait_for_socket();
        self.connect().await;
    }

    /// Runs statements as root, over the socket, whatever lock stands.
    pub(super) fn root(&self, sql: &str) -> String {
        let lock = "SELECT @@global.read_only INTO @lock; SET sql_log_bin = 0;";
        let open = match S::LINES.contains("super_read_only") {
            true => format!("SET GLOBAL read_only = 0; {sql}; SET GLOBAL super_read_only = 1"),
            false => sql.to_owned(),
        };
        let asked = sql.starts_with("SELECT");
        let sql = if asked { sql.to_owned() } else { format!("{lock} {open}") };
        self.client(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn client(&self, sql: &str) -> Result<String, String> {
        let socket = self.folder.path().join("sock");
        let output = Command::new("mariadb")
            .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"])
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--execute={sql}"))
            .stdin(Stdio::null())
            .output()
            .expect("the client is installed");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Runs statements that do not end, as root.
    pub(super) fn hold(&self, sql: &str) -> Child {
        let socket = self.folder.path().join("sock");
        bound_to_this_thread("mariadb")
            .args(["--no-defaults", "--user=root"])
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--execute={sql}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the client is installed")
    }

    /// What writes a row of a table, over the agent's own account.
    pub(super) fn writer(&self, table: &str) -> Writer {
        let writer = Writer::new(self.address, Some(&credentials()), None, table, "foo/db1");
        writer.expect("no files to read")
    }

    fn session(&self) -> &Session {
        self.session.as_ref().expect("connected")
    }

    pub(super) fn flavour(&self) -> Flavour {
        self.session().server().flavour
    }

    /// The verdicts, over the agent's own account.
    pub(super) async fn judge(&self) -> Verdicts {
        let pid = self.child.as_ref().expect("runs").id();
        let process = Arc::new(Process::open(pid).expect("runs"));
        let name = "db1".parse().expect("a name");
        let subject = Subject { name: &name, replication_user: Some("repl") };
        let deadline = Instant::now() + ASK_WAIT;
        self.judge.judge(&subject, self.session(), Some(&process), deadline).await
    }

    /// A look at its files began and does not end.
    pub(super) fn hang_the_disk(&self, hangs: bool) {
        self.judge.reading.store(hangs, Ordering::SeqCst);
    }

    pub(super) async fn above(&self) -> Vec<Above> {
        above_read_only(self.session(), Instant::now() + ASK_WAIT).await.expect("answers")
    }
}

impl<S: Server> Drop for Bench<S> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}
