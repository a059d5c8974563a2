//! The two servers as child processes: where they come from, how a data folder begins, and the
//! option file of each.
//!
//! A data folder is made once for each kind of server and copied for each test. MySQL runs in the
//! tree that it is installed in, so its folders lie in there.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Of the agent's account, on all servers that these tests start.
pub(super) const PASSWORD: &str = "pa55-of-the-test";

/// Of the account that copies log in with.
pub(super) const REPLICATION_PASSWORD: &str = "c0py-of-the-'test";

/// Counts up with what is put into a template.
const TEMPLATE: &str = "sengu-unit-template-1";

/// Kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Mysql,
    Mariadb,
}

/// Grants of the agent's account, and the other accounts: a copy's, a client's.
fn accounts(kind: Kind) -> String {
    let grants = match kind {
        Kind::Mariadb => {
            "GRANT PROCESS, RELOAD, BINLOG MONITOR, SLAVE MONITOR, REPLICATION SLAVE ADMIN, \
             REPLICATION MASTER ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN, BINLOG ADMIN, SUPER \
             ON *.* TO sengu@'%';\nGRANT SELECT ON mysql.* TO sengu@'%';\n"
        }
        Kind::Mysql => {
            "GRANT PROCESS, RELOAD, REPLICATION CLIENT, SYSTEM_VARIABLES_ADMIN, \
             REPLICATION_SLAVE_ADMIN, CONNECTION_ADMIN, XA_RECOVER_ADMIN, SYSTEM_USER, \
             SERVICE_CONNECTION_ADMIN ON *.* TO sengu@'%';\n\
             GRANT SELECT ON performance_schema.* TO sengu@'%';\n\
             GRANT SELECT ON mysql.* TO sengu@'%';\n"
        }
    };
    let copy = REPLICATION_PASSWORD.replace('\'', "''");
    // It is set up without a table of privileges to create accounts in.
    let first = if kind == Kind::Mariadb { "FLUSH PRIVILEGES;\n" } else { "" };
    format!(
        "{first}CREATE USER sengu@'%' IDENTIFIED BY '{PASSWORD}';\n{grants}\
         CREATE USER IF NOT EXISTS root@'127.0.0.1' IDENTIFIED BY '';\n\
         GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n\
         CREATE USER copy@'%' IDENTIFIED BY '{copy}';\n\
         GRANT REPLICATION SLAVE ON *.* TO copy@'%';\n\
         CREATE USER app@'%' IDENTIFIED BY 'app';\nGRANT ALL ON app.* TO app@'%';\n"
    )
}

const COMMON: &str = "log-bin=binlog\nrelay-log=relay\nbinlog-format=ROW\nmax-connections=40\n\
                      innodb-buffer-pool-size=16M\ninnodb-flush-log-at-trx-commit=2\n\
                      innodb-buffer-pool-dump-at-shutdown=OFF\n\
                      innodb-buffer-pool-load-at-startup=OFF\nskip-name-resolve=ON\n";

const MARIADB: &str = "log-slave-updates=ON\ngtid-strict-mode=ON\nslave-net-timeout=4\n\
                       innodb-log-file-size=8M\naria-pagecache-buffer-size=1M\n";

const MYSQL: &str = "log-replica-updates=ON\ngtid-mode=ON\nenforce-gtid-consistency=ON\n\
                     replica-net-timeout=4\nmysqlx=OFF\nsecure-file-priv=NULL\n\
                     innodb-redo-log-capacity=8M\ntable-open-cache=200\n\
                     plugin-load-add=semisync_source.so\nplugin-load-add=semisync_replica.so\n\
                     performance-schema-digests-size=0\n";

impl Kind {
    /// The tree that MySQL is installed in: `SENGU_MYSQL_TREE`, or where `integration/servers`
    /// puts it.
    fn tree(self) -> Option<PathBuf> {
        let cache = || {
            let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
            std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)
        };
        let named = || std::env::var_os("SENGU_MYSQL_TREE").map(PathBuf::from);
        (self == Self::Mysql).then(|| {
            let tree = named().or_else(|| Some(cache()?.join("sengu-servers/mysql")));
            tree.filter(|tree| tree.join("usr/sbin/mysqld").exists())
                .expect("MySQL is not installed: run integration/servers")
        })
    }

    /// Where folders of its servers lie.
    pub(super) fn parent(self) -> PathBuf {
        let tree = self.tree();
        let parent = tree.map_or_else(std::env::temp_dir, |tree| tree.join("srv"));
        fs::create_dir_all(&parent).expect("a folder");
        parent
    }

    /// A path as the server sees it.
    pub(super) fn inside(self, path: &Path) -> PathBuf {
        match self.tree() {
            Some(tree) => Path::new("/").join(path.strip_prefix(&tree).expect("in the tree")),
            None => path.to_owned(),
        }
    }

    fn command(self) -> Command {
        // Ends with the test, even if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match self.tree() {
            Some(tree) => command.arg("chroot").arg(tree).arg("/usr/sbin/mysqld"),
            None => command.arg("mariadbd"),
        };
        command.stdin(Stdio::null());
        command
    }

    /// The data folder to copy, made by whoever needs it first.
    fn template(self) -> &'static Path {
        static MADE: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
        MADE[self as usize].get_or_init(|| {
            let name = format!("{TEMPLATE}-{self:?}-{}", env!("CARGO_PKG_VERSION"));
            let made = self.parent().join(name);
            if made.exists() {
                return made;
            }
            let work = tempfile::tempdir_in(self.parent()).expect("a folder");
            self.initialise(work.path());
            // Another test process may have been quicker: it made the same.
            if fs::rename(work.path().join("data"), &made).is_err() {
                assert!(made.exists(), "no template at {}", made.display());
            }
            made
        })
    }

    fn initialise(self, work: &Path) {
        let file = work.join("accounts.sql");
        fs::write(&file, accounts(self)).expect("written");
        let (data, file) = (self.inside(&work.join("data")), self.inside(&file));
        let mut command = match self {
            Self::Mysql => {
                let mut command = self.command();
                command.args([
                    "--no-defaults",
                    "--initialize-insecure",
                    "--secure-file-priv=NULL",
                    "--skip-log-bin",
                    "--innodb-redo-log-capacity=8M",
                ]);
                command.arg(format!("--init-file={}", file.display()));
                command
            }
            Self::Mariadb => {
                let mut command = Command::new("mariadb-install-db");
                command.args([
                    "--no-defaults",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--innodb-log-file-size=8M",
                ]);
                command.arg(format!("--extra-file={}", file.display()));
                command
            }
        };
        let output = command
            // A server clears what it takes for its own in a folder that others use, too.
            .env("TMPDIR", self.inside(work))
            .arg("--user=root")
            .arg(format!("--datadir={}", data.display()))
            .output()
            .expect("the server is not installed: run integration/servers");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?} cannot be set up: {said}");
        // Each server makes its own identity.
        let _absent = fs::remove_file(work.join("data/auto.cnf"));
    }

    /// A folder for a server: a copy of the template, no option file yet.
    pub(super) fn folder(self) -> TempDir {
        let folder = tempfile::tempdir_in(self.parent()).expect("a folder");
        copy(self.template(), &folder.path().join("data")).expect("copied");
        folder
    }

    /// Writes a server's option file.
    pub(super) fn write_options(self, folder: &Path, at: SocketAddr, lines: &str) {
        let (ip, port, seen) = (at.ip(), at.port(), self.inside(folder));
        let seen = seen.display();
        let own = if self == Self::Mysql { MYSQL } else { MARIADB };
        // The port is its number: no two servers of this machine have the same.
        let text = format!(
            "[mysqld]\nuser=root\ndatadir={seen}/data\nsocket={seen}/socket\npid-file={seen}/pid\n\
             bind-address={ip}\nport={port}\nserver-id={port}\n{COMMON}{own}{lines}\n"
        );
        fs::write(folder.join("my.cnf"), text).expect("written");
    }

    /// Starts a server in its folder.
    pub(super) fn spawn(self, folder: &Path) -> Child {
        let file = self.inside(&folder.join("my.cnf"));
        let log = fs::File::create(folder.join("log")).expect("a log");
        self.command()
            .arg(format!("--defaults-file={}", file.display()))
            .env("TMPDIR", self.inside(folder))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server is not installed: run integration/servers")
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
