//! Which server, and all in which the two differ before they run: programs, paths, option files.
//!
//! Option files start a server fenced, with replication by GTID and semi-synchronous replication
//! ready and switched off; nothing here opens a server.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::rig::tree;

/// Variable with the tree that MySQL is installed in.
pub const MYSQL_TREE: &str = "SENGU_MYSQL_TREE";

/// Which server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flavour {
    /// `mariadbd` of this machine.
    MariaDb,
    /// `mysqld` in a tree of its own, run there by `chroot`.
    Mysql(PathBuf),
}

impl Flavour {
    /// MySQL, from the tree that `integration/servers` has installed.
    ///
    /// # Panics
    /// If there is none: a missing server is a failure, not a reason to skip.
    #[must_use]
    pub fn mysql() -> Self {
        Self::Mysql(tree::find(MYSQL_TREE, "mysql", "usr/sbin/mysqld"))
    }

    /// Both.
    #[must_use]
    pub fn all() -> [Self; 2] {
        [Self::MariaDb, Self::mysql()]
    }

    /// In names of files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::Mysql(_) => "mysql",
        }
    }

    /// Is it MariaDB?
    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        *self == Self::MariaDb
    }

    /// Where folders of its servers may be.
    #[must_use]
    pub fn parent(&self) -> PathBuf {
        match self {
            Self::MariaDb => std::env::temp_dir(),
            Self::Mysql(tree) => tree.join("tmp"),
        }
    }

    /// A path as the server sees it.
    #[must_use]
    pub fn inside(&self, path: &Path) -> PathBuf {
        match self {
            Self::MariaDb => path.to_owned(),
            Self::Mysql(tree) => tree::inside(tree, path),
        }
    }

    /// The server's program with these arguments.
    #[must_use]
    pub fn command(&self, arguments: &[String]) -> Vec<String> {
        let mut words: Vec<String> = match self {
            Self::MariaDb => vec!["mariadbd".into()],
            Self::Mysql(tree) => {
                vec!["chroot".into(), tree.display().to_string(), "/usr/sbin/mysqld".into()]
            }
        };
        words.extend_from_slice(arguments);
        words
    }

    /// The option file of a server in this folder.
    #[must_use]
    pub fn options(&self, folder: &Path, at: SocketAddr, number: u32, setup: &Setup) -> String {
        let (ip, port, folder) = (at.ip(), at.port(), self.inside(folder));
        let folder = folder.display();
        let mut text = format!(
            "[mysqld]\ndatadir={folder}/data\nsocket={folder}/socket\npid-file={folder}/pid\n\
             tmpdir={folder}/tmp\n\
             bind-address={ip}\nport={port}\nreport-host={ip}\nreport-port={port}\n\
             server-id={number}\n{COMMON}"
        );
        if rustix::process::geteuid().is_root() {
            // Changing the user would undo what ends it with the test.
            text += "user=root\n";
        }
        text += match self {
            Self::MariaDb => MARIADB,
            Self::Mysql(_) => MYSQL,
        };
        if setup.fenced {
            text += match self {
                Self::MariaDb => "read_only=ON\n",
                Self::Mysql(_) => "read_only=ON\nsuper_read_only=ON\n",
            };
        }
        if setup.semisync {
            text += match self {
                Self::MariaDb => SEMISYNC_MARIADB,
                Self::Mysql(_) => SEMISYNC_MYSQL,
            };
        }
        let _ = writeln!(text, "{}", setup.lines);
        text
    }
}

/// Small and quick; as durable as they come.
const COMMON: &str = "log-bin=binlog\nrelay-log=relay\nbinlog-format=ROW\nsync-binlog=1\n\
    innodb-flush-log-at-trx-commit=1\ninnodb-buffer-pool-size=16M\nkey-buffer-size=1M\n\
    innodb-buffer-pool-dump-at-shutdown=OFF\ninnodb-buffer-pool-load-at-startup=OFF\n\
    table-open-cache=200\ntable-definition-cache=400\nmax-connections=80\n\
    max-allowed-packet=32M\nskip-name-resolve=ON\n";

/// `replica_net_timeout` in MySQL's file below.
pub const NET_TIMEOUT: Duration = Duration::from_secs(1);

const MARIADB: &str = "log-slave-updates=ON\ngtid-strict-mode=ON\nslave-net-timeout=4\n\
    innodb-log-file-size=8M\naria-pagecache-buffer-size=1M\nperformance-schema=OFF\n\
    binlog-annotate-row-events=ON\nslave-parallel-threads=4\n";

const MYSQL: &str = "log-replica-updates=ON\ngtid-mode=ON\nenforce-gtid-consistency=ON\n\
    replica-net-timeout=1\nmysqlx=OFF\nsecure-file-priv=NULL\ninnodb-redo-log-capacity=32M\n\
    innodb-undo-log-truncate=OFF\nbinlog-rows-query-log-events=ON\nreplica-parallel-workers=4\n\
    plugin-load-add=semisync_source.so\nplugin-load-add=semisync_replica.so\n\
    performance-schema=ON\nperformance-schema-digests-size=0\n\
    performance-schema-events-statements-history-long-size=0\n\
    performance-schema-events-waits-history-long-size=0\n\
    performance-schema-events-stages-history-long-size=0\n\
    performance-schema-events-transactions-history-long-size=0\n";

/// Ready for acknowledgements, which nobody gives or waits for until told to.
const SEMISYNC_MARIADB: &str = "sync-relay-log=1\nrelay-log-recovery=OFF\n\
    rpl-semi-sync-master-wait-point=AFTER_SYNC\nrpl-semi-sync-master-timeout=4294967295\n\
    rpl-semi-sync-master-wait-no-slave=ON\nrpl-semi-sync-slave-kill-conn-timeout=1\n\
    rpl-semi-sync-master-enabled=OFF\nrpl-semi-sync-slave-enabled=OFF\n";

const SEMISYNC_MYSQL: &str = "sync-relay-log=1\nrelay-log-recovery=OFF\n\
    loose-rpl-semi-sync-source-wait-point=AFTER_SYNC\n\
    loose-rpl-semi-sync-source-timeout=4294967295\n\
    loose-rpl-semi-sync-source-wait-no-replica=ON\nloose-rpl-semi-sync-source-enabled=OFF\n\
    loose-rpl-semi-sync-replica-enabled=OFF\n";

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which server.
    pub flavour: Flavour,
    /// Does its file start it fenced?
    pub fenced: bool,
    /// Is it ready for semi-synchronous replication?
    pub semisync: bool,
    /// More lines of its file.
    pub lines: String,
}

impl Setup {
    /// The usual one.
    #[must_use]
    pub fn new(flavour: Flavour) -> Self {
        Self { flavour, fenced: true, semisync: false, lines: String::new() }
    }
}
