//! `sengu store etcd-config`: the files of an etcd for several hosts, ready to copy.
//!
//! Writes, for each host, etcd's configuration and its systemd unit, and the `[store]` table of
//! sengu, into a new folder. Starts nothing and overwrites nothing.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use sengu_core::name::HostName;

/// What a cluster of etcd is made of.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// A host and its address: three or five of them
    #[arg(long = "member", value_name = "HOST=ADDRESS", value_parser = member, required = true)]
    members: Vec<Member>,
    /// The new folder that everything is written to
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Where etcd keeps its data on each host
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/etcd/sengu")]
    etcd_data: PathBuf,
    /// Speak TLS: where each host has `ca.pem`, `member.pem` and `member.key`
    #[arg(long, value_name = "FOLDER")]
    certificates: Option<PathBuf>,
    /// The election time-out, in milliseconds: ten times the slowest round trip or more
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(100..=30_000))]
    election: u32,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    host: HostName,
    address: IpAddr,
}

fn member(text: &str) -> Result<Member, String> {
    let (host, address) = text.split_once('=').ok_or("write it as `db1=10.0.0.11`")?;
    let host = HostName::new(host).map_err(|_| format!("{host:?} is no host name"))?;
    let address = address.parse().map_err(|_| format!("{address:?} is no IP address"))?;
    Ok(Member { host, address })
}

/// An address as it stands in a URL.
fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

impl Options {
    fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "https" } else { "http" }
    }

    fn check(&self) -> anyhow::Result<()> {
        let count = self.members.len();
        ensure!(
            count == 3 || count == 5,
            "{count} members: etcd goes on while more than half of them run, so it takes three \
             (one may fail) or five (two may); the third of two database hosts is any host that \
             runs etcd alone"
        );
        for (at, member) in self.members.iter().enumerate() {
            let twice = self.members[..at]
                .iter()
                .any(|other| other.host == member.host || other.address == member.address);
            ensure!(!twice, "{} or its address {} stands twice", member.host, member.address);
        }
        Ok(())
    }

    fn urls(&self, port: u16) -> impl Iterator<Item = (&Member, String)> {
        let scheme = self.scheme();
        self.members
            .iter()
            .map(move |member| (member, format!("{scheme}://{}:{port}", shown(member.address))))
    }

    /// etcd's configuration of one host.
    fn configuration(&self, member: &Member) -> String {
        let url = |port| format!("{}://{}:{port}", self.scheme(), shown(member.address));
        let (client, peer) = (url(2379), url(2380));
        let all: Vec<_> =
            self.urls(2380).map(|(member, url)| format!("{}={url}", member.host)).collect();
        let (data, election) = (self.etcd_data.display(), self.election);
        let mut text = format!(
            "# etcd on {host}, for sengu. The same on each host but for its name and addresses.\n\
             name: {host}\n\
             data-dir: {data}\n\
             listen-client-urls: {client}\n\
             advertise-client-urls: {client}\n\
             listen-peer-urls: {peer}\n\
             initial-advertise-peer-urls: {peer}\n\
             initial-cluster: {all}\n\
             initial-cluster-token: sengu\n\
             # `new` for the first start of all; `existing` for one that replaces a lost one.\n\
             initial-cluster-state: new\n\
             strict-reconfig-check: true\n\
             # Sengu's lease must outlast two elections: `election` in [store] is to be this.\n\
             heartbeat-interval: {heartbeat}\n\
             election-timeout: {election}\n\
             # Each beat makes a revision; what is older than an hour is of no use to anybody.\n\
             auto-compaction-mode: periodic\n\
             auto-compaction-retention: \"1h\"\n\
             quota-backend-bytes: 2147483648\n\
             logger: zap\n",
            host = member.host,
            all = all.join(","),
            heartbeat = (election / 10).max(10),
        );
        if let Some(folder) = &self.certificates {
            let file = |name: &str| folder.join(name).display().to_string();
            let files = format!(
                "  cert-file: {}\n  key-file: {}\n  trusted-ca-file: {}\n  client-cert-auth: true\n",
                file("member.pem"),
                file("member.key"),
                file("ca.pem"),
            );
            // Writing to a text does not fail.
            let _ = write!(
                text,
                "client-transport-security:\n{files}peer-transport-security:\n{files}"
            );
        }
        text
    }

    /// The `[store]` table of every host's sengu.
    fn table(&self) -> String {
        let urls: Vec<_> = self.urls(2379).map(|(_, url)| format!("    \"{url}\",\n")).collect();
        let mut text = format!(
            "[store]\nkind = \"etcd\"\nendpoints = [\n{}]\nelection = \"{}ms\"\n",
            urls.concat(),
            self.election
        );
        if let Some(folder) = &self.certificates {
            let file = |name: &str| folder.join(name).display().to_string();
            let _ = write!(
                text,
                "\n[store.tls]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
                file("ca.pem"),
                file("member.pem"),
                file("member.key"),
            );
        }
        text
    }
}

/// The unit of every host.
const UNIT: &str = "\
[Unit]
Description=etcd, for sengu
Documentation=https://etcd.io/docs/
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
User=etcd
ExecStart=/usr/bin/etcd --config-file /etc/etcd/sengu.yaml
Restart=on-failure
RestartSec=2s
LimitNOFILE=65536
# Late syncs and a late process both look like a dead leader.
OOMScoreAdjust=-900
Nice=-5
IOSchedulingClass=best-effort
IOSchedulingPriority=0
NoNewPrivileges=true
ProtectSystem=full
ProtectHome=true
PrivateTmp=true

[Install]
WantedBy=multi-user.target
";

/// Writes everything; what is to be done with it.
pub(super) fn run(options: &Options) -> anyhow::Result<String> {
    options.check()?;
    let folder = &options.to;
    if folder.exists() {
        bail!("{} is there already; nothing is overwritten: name a new folder", folder.display());
    }
    for member in &options.members {
        let place = folder.join(member.host.as_str());
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        put(&place.join("sengu.yaml"), &options.configuration(member))?;
        put(&place.join("etcd-sengu.service"), UNIT)?;
        put(&place.join("store.toml"), &options.table())?;
    }
    let hosts: Vec<_> = options.members.iter().map(|member| member.host.to_string()).collect();
    Ok(format!(
        "wrote {} for {}\non each of these hosts: copy sengu.yaml to /etc/etcd/sengu.yaml, \
         etcd-sengu.service to /etc/systemd/system, make {} for the user etcd (mode 700), then \
         `systemctl enable --now etcd-sengu`; put store.toml into sengu's configuration",
        folder.display(),
        hosts.join(", "),
        options.etcd_data.display(),
    ))
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::{Config, Elsewhere, StoreConfig};

    fn options(members: &[&str], to: &Path) -> Options {
        Options {
            members: members.iter().map(|text| member(text).expect("good")).collect(),
            to: to.to_owned(),
            etcd_data: to.join("data"),
            certificates: None,
            election: 1000,
        }
    }

    #[test]
    fn a_number_of_members_that_gains_nothing_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let to = folder.path().join("new");
        for members in [
            &["a=10.0.0.1"][..],
            &["a=10.0.0.1", "b=10.0.0.2"],
            &["a=10.0.0.1", "b=10.0.0.2", "b=10.0.0.3"],
            &["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.2"],
        ] {
            run(&options(members, &to)).expect_err("refused");
        }
        run(&options(&["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3"], folder.path()))
            .expect_err("nothing is overwritten");
        assert!(!to.exists());
    }

    #[test]
    fn certificates_stand_on_both_sides() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options =
            options(&["a=10.0.0.1", "b=10.0.0.2", "c=fd00::3"], &folder.path().join("new"));
        options.certificates = Some("/etc/etcd/tls".into());
        run(&options).expect("written");
        let yaml = options.configuration(&options.members[2]);
        assert!(yaml.contains("listen-client-urls: https://[fd00::3]:2379"), "{yaml}");
        assert_eq!(yaml.matches("client-cert-auth: true").count(), 2, "{yaml}");
        let config = Config::parse(&options.table(), Path::new("/etc/sengu/a.toml"), &Elsewhere);
        let StoreConfig::Etcd(etcd) = config.expect("sengu takes it").store else {
            panic!("it is etcd")
        };
        assert_eq!(etcd.endpoints.len(), 3);
        assert!(etcd.tls.is_some_and(|tls| tls.identity.is_some()));
    }

    struct Members(Vec<Child>);

    impl Drop for Members {
        fn drop(&mut self) {
            for child in &mut self.0 {
                // Fails only if it has ended already.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    #[tokio::test]
    async fn what_is_written_makes_a_cluster() {
        let folder = tempfile::tempdir().expect("a folder");
        let id = std::process::id();
        // Addresses of this test alone, with etcd's own ports.
        let block = format!("127.{}.{}", 130 + id % 100, id / 100 % 250);
        let members: Vec<_> = (1..=3).map(|at| format!("db{at}={block}.{at}")).collect();
        let words: Vec<_> = members.iter().map(String::as_str).collect();
        let options = options(&words, &folder.path().join("new"));
        run(&options).expect("written");
        let start = |at: usize| {
            let place = options.to.join(format!("db{at}"));
            let log = fs::File::create(folder.path().join(format!("{at}.log"))).expect("a log");
            // Three on one machine: each needs a folder of its own.
            let yaml = place.join("sengu.yaml");
            let text = fs::read_to_string(&yaml).expect("read");
            let data = options.etcd_data.display().to_string();
            fs::write(&yaml, text.replace(&data, &format!("{data}{at}"))).expect("written");
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--", "etcd", "--config-file"])
                .arg(yaml)
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a log"))
                .stderr(log)
                .spawn()
                .expect("etcd can be started")
        };
        let _members = Members((1..=3).map(start).collect());
        let config = Config::parse(&options.table(), Path::new("/etc/sengu/a.toml"), &Elsewhere);
        let StoreConfig::Etcd(etcd) = config.expect("sengu takes it").store else {
            panic!("it is etcd")
        };
        let late = Duration::from_millis(250);
        let store = crate::store::etcd::EtcdStore::new(&etcd, late).expect("made");
        let began = Instant::now();
        while let Err(error) = crate::store::Store::load(&store).await {
            let log = fs::read_to_string(folder.path().join("1.log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(30), "{error}\n{log}");
        }
        let members = store.members().await;
        assert!(members.iter().all(|member| member.version.is_ok()), "{members:?}");
    }
}
