//! The one table of configuration keys: where each stands, its default and its meaning.
//!
//! `sengu config` and `docs/configuration.md` are printed from it, suggestions for unknown keys
//! are drawn from it, and the reader refuses (in debug builds) to ask for a key that is not here.
//! It decides nothing: the values are read and checked beside it.

use std::collections::BTreeSet;

/// A table of the file.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Where it stands, with `NAME` for what the operator names; empty: the top.
    pub path: &'static str,
    /// Its header as an example, or empty for the top.
    pub header: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its keys, in the order in which they are shown.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What holds without it.
    pub preset: Preset,
    /// A good value, in TOML.
    pub example: &'static str,
    /// What it means; bounds and units included.
    pub meaning: &'static str,
}

/// What holds when a key is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// This value, in TOML.
    Fixed(&'static str),
    /// Something that depends on the machine or on other keys, in words.
    Found(&'static str),
    /// The key must be there.
    Required,
}

const fn fixed(name: &'static str, value: &'static str, meaning: &'static str) -> Key {
    Key { name, preset: Preset::Fixed(value), example: value, meaning }
}

const fn found(
    name: &'static str,
    example: &'static str,
    preset: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, preset: Preset::Found(preset), example, meaning }
}

const fn required(name: &'static str, example: &'static str, meaning: &'static str) -> Key {
    Key { name, preset: Preset::Required, example, meaning }
}

/// The top of the file.
pub const TOP: Section = Section {
    path: "",
    header: "",
    about: "The agent itself.",
    keys: &[
        found(
            "host",
            "\"db1\"",
            "the first label of the machine's host name, in lower case",
            "This host's name: one DNS label, unique among the agents of one store.",
        ),
        found(
            "address",
            "\"10.0.0.11\"",
            "the address that this machine sends from by default, or 127.0.0.1 if it has none",
            "The address that this host's names answer with.",
        ),
        fixed(
            "data_dir",
            "\"/var/lib/sengu\"",
            "Where the store and the agent's id are kept. Never share it between hosts.",
        ),
        fixed(
            "socket",
            "\"/run/sengu/sengu.sock\"",
            "The unix socket of the operator's commands; only root may open it.",
        ),
        fixed(
            "datacenter",
            "\"dc1\"",
            "The datacenter in DNS names and in Consul's dialect: one DNS label.",
        ),
        fixed(
            "guard",
            "false",
            "Does `sengu guard` run beside the agent? Then the agent tells it what it holds, and says \
             when it is missing.",
        ),
    ],
};

/// `[store]`.
pub const STORE: Section = Section {
    path: "store",
    header: "[store]",
    about: "Where records are kept, and for how long an answer counts.",
    keys: &[
        fixed(
            "kind",
            "\"embedded\"",
            "`embedded`: one file in `data_dir`, one agent. `etcd`: for the agents of several hosts.",
        ),
        fixed(
            "lease",
            "\"6s\"",
            "How long after the last sign of life a master is still named: 1s to 60s. With etcd also \
             how long a master's host may go without writing to it before it has fenced itself.",
        ),
        found(
            "endpoints",
            "[\"http://10.0.0.11:2379\", \"http://10.0.0.12:2379\", \"http://10.0.0.13:2379\"]",
            "none; etcd needs them",
            "The members of etcd, each of them; `https://` for TLS.",
        ),
        found(
            "prefix",
            "\"/sengu/main/\"",
            "`/sengu/`",
            "What all keys in etcd begin with: one prefix for each cluster of sengu.",
        ),
        found(
            "election",
            "\"1s\"",
            "1s, which is etcd's",
            "etcd's `election-timeout`. The lease must outlast two of them, two beats and the fence.",
        ),
        found(
            "fence",
            "\"1500ms\"",
            "a quarter of the lease",
            "With etcd: how long before the end of its lease a master begins to fence itself.",
        ),
        found(
            "credentials",
            "\"/etc/sengu/etcd.secret\"",
            "no login",
            "File with the user and password for etcd, readable by its owner only.",
        ),
        found(
            "credentials_env",
            "\"SENGU_ETCD_SECRET\"",
            "no login",
            "Environment variable with the same, in place of a file.",
        ),
    ],
};

/// `[store.tls]`.
pub const STORE_TLS: Section = Section {
    path: "store.tls",
    header: "[store.tls]",
    about: "Certificates for etcd's `https://` endpoints.",
    keys: TLS.keys,
};

/// `[dns]`.
pub const DNS: Section = Section {
    path: "dns",
    header: "[dns]",
    about: "The DNS server.",
    keys: &[
        fixed(
            "listen",
            "[\"127.0.0.1:8600\"]",
            "Where it listens, UDP and TCP. An empty list: nowhere.",
        ),
        fixed(
            "domains",
            "[\"sengu\", \"consul\"]",
            "The domains that it answers for: `master.NAME.service.DOMAIN`.",
        ),
        fixed(
            "ttl",
            "\"0s\"",
            "How long others may keep answers about services and hosts: 0s to 1h. Keep it small: \
             a cached answer names the old master for so long.",
        ),
        fixed(
            "recursors",
            "[]",
            "Where all other names are asked, as `address` or `address:port`. An empty list: \
             they are refused.",
        ),
        fixed(
            "recursion_clients",
            "[\"127.0.0.0/8\", \"::1/128\"]",
            "Who may ask other names, as networks of 8 bits and more.",
        ),
        fixed(
            "responses_per_second",
            "1000",
            "Answers over UDP to one network beyond this host (IPv4 /24, IPv6 /56) in a second: 1 \
             to 1000000. Beyond them clients are sent to TCP, or not answered.",
        ),
        fixed("connections", "256", "TCP connections at a time: 1 to 10000."),
        fixed(
            "connections_per_address",
            "64",
            "Of one address beyond this host (IPv6: of one /64): 1 to 10000.",
        ),
    ],
};

/// `[http]`.
pub const HTTP: Section = Section {
    path: "http",
    header: "[http]",
    about: "The HTTP server: Consul's dialect, health answers for load balancers.",
    keys: &[
        fixed(
            "listen",
            "[\"127.0.0.1:8500\"]",
            "Where it listens; beyond loopback only with tokens, and with TLS or `plaintext`. An \
             empty list: nowhere.",
        ),
        fixed(
            "plaintext",
            "false",
            "May it listen beyond loopback without TLS? Tokens and values then cross the network \
             for all to read.",
        ),
        fixed(
            "health_without_token",
            "true",
            "Are `/health`, `/master/…`, `/replica/…` and `/check/…` answered without a token, \
             for load balancers that send none?",
        ),
        fixed(
            "loopback_without_token",
            "false",
            "Where there are tokens: may clients on this host read and write without one, as they \
             may where there is none?",
        ),
    ],
};

/// `[http.tls]`.
pub const HTTP_TLS: Section = Section {
    path: "http.tls",
    header: "[http.tls]",
    about: "TLS for listeners beyond loopback. The files are read again when they change, and by \
            `sengu reload`; a pair that is wrong or expired leaves the one before in force.",
    keys: &[
        found(
            "certificate",
            "\"/etc/sengu/server.pem\"",
            "no TLS",
            "PEM file with the server's certificate, and those between it and its root; together \
             with `key`.",
        ),
        found(
            "key",
            "\"/etc/sengu/server.key\"",
            "no TLS",
            "PEM file with its private key, which others than its owner and group cannot read.",
        ),
        found(
            "client_ca",
            "\"/etc/sengu/clients.pem\"",
            "no certificate is asked for",
            "PEM file with the certificates that those of clients must come from. They are asked \
             for beside tokens, not in their place.",
        ),
        fixed("loopback", "false", "Is TLS spoken on loopback addresses, too?"),
    ],
};

/// `[http.limits]`.
pub const HTTP_LIMITS: Section = Section {
    path: "http.limits",
    header: "[http.limits]",
    about: "Bounds of the HTTP server. Those of one address do not hold for clients on this host.",
    keys: &[
        fixed("connections", "8192", "Open connections: 16 to 100000."),
        fixed(
            "connections_per_address",
            "1024",
            "Open connections of one address (IPv6: of one /64): 1 to 100000.",
        ),
        found(
            "waiting",
            "6144",
            "three quarters of `connections`, which is the most",
            "Reads that wait for a change: 1 to 75000. What is left of the connections is for \
             others.",
        ),
        found(
            "streams",
            "1024",
            "an eighth of `connections`, which is the most",
            "Readers of the event stream: 1 to 12500.",
        ),
        fixed(
            "requests_per_second",
            "1000",
            "Requests of one address (IPv6: of one /64) in a second, with as many on top at once: \
             1 to 1000000.",
        ),
        fixed("header", "\"10s\"", "How long a request's header may take: 100ms to 5m."),
        fixed("header_bytes", "32768", "Bytes of a request's line and header: 8192 to 1048576."),
        fixed("body", "\"30s\"", "How long a request's body may take: 100ms to 10m."),
        fixed(
            "stall",
            "\"30s\"",
            "How long a client may take nothing of its answer: 100ms to 10m.",
        ),
        fixed("idle", "\"2m\"", "How long a connection may be idle: 1s to 1h."),
    ],
};

/// `[token.NAME]`.
pub const TOKEN: Section = Section {
    path: "token.NAME",
    header: "[token.grafana]",
    about: "Who may use the HTTP server; NAME, one DNS label, stands in the audit. `sengu token \
            new` makes one. Changed by `sengu reload`.",
    keys: &[
        required(
            "scope",
            "\"read\"",
            "What for: `read`, `write` (also keys, sessions, registrations) or `operate` (also \
             what the operator's socket takes).",
        ),
        required(
            "hash",
            "\"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
            "The hash of the token. Or a `file` in its place.",
        ),
        found(
            "file",
            "\"/etc/sengu/grafana.token\"",
            "none",
            "File with up to four lines, each a hash or a token, all of which count: the old and \
             the new one while it is changed. Only its owner may be able to read it.",
        ),
    ],
};

/// `[checks]`.
pub const CHECKS: Section = Section {
    path: "checks",
    header: "[checks]",
    about: "The operator's own checks, beside those that sengu brings.",
    keys: &[
        found(
            "folder",
            "\"/etc/sengu/checks\"",
            "`checks` beside this file, if it is there",
            "Folder with own check definitions, one TOML file each.",
        ),
        found(
            "services",
            "\"/etc/sengu/services\"",
            "`services` beside this file, if it is there",
            "Folder with services and checks in Consul's JSON, to register with this agent.",
        ),
        fixed("scripts", "false", "May checks of files on this host run programs?"),
        fixed(
            "http_scripts",
            "false",
            "May checks that clients register over HTTP run programs, as the agent? Where there are \
             tokens, those of scope `operate`; else whoever reaches the port.",
        ),
    ],
};

/// `[service.NAME]`.
pub const SERVICE: Section = Section {
    path: "service.NAME",
    header: "[service.foo-redis]",
    about: "A service with instances on this host. NAME is one DNS label. The hosts of one \
            service must agree on everything but instances and credentials.",
    keys: &[
        required(
            "kind",
            "\"redis\"",
            "The database: `redis` (Redis or Valkey) or `mysql` (MySQL or MariaDB; `mariadb` means \
             the same, the server tells which it is).",
        ),
        fixed(
            "failover",
            "\"manual\"",
            "Who moves mastership: `auto` (sengu, when the master fails), `manual` (a person) or \
             `external` (another tool, which calls `sengu hook generic`; see docs/hooks.md).",
        ),
        fixed(
            "loss",
            "\"bounded\"",
            "What a failover may lose: `bounded` (writes that no replica had received; told after \
             each failover) or `none` (nothing acknowledged; MySQL and MariaDB with \
             semi-synchronous replication).",
        ),
        found(
            "credentials",
            "\"/etc/sengu/redis.secret\"",
            "none",
            "File with the password on its first line, or with lines `user = …` and \
             `password = …`; for MySQL and MariaDB, which ask for a user, also \
             `replication_user = …` and `replication_password = …`, the account that copies log \
             in to their source with. Only its owner may be able to read it.",
        ),
        found(
            "credentials_env",
            "\"REDIS_SECRET\"",
            "none",
            "Environment variable of the agent with the same content; instead of `credentials`.",
        ),
        found(
            "rejoin",
            "\"ask\"",
            "`resync` for Redis, `ask` for MySQL and MariaDB",
            "An old master whose history is not part of the new one: `resync` (the new master's \
             data replaces its own; Redis only) or `ask` (it stays fenced until a person \
             decides).",
        ),
        fixed(
            "kill",
            "true",
            "May sengu end a database process that it cannot fence in another way?",
        ),
        fixed(
            "max_lag",
            "\"10s\"",
            "The target of a switchover may be so far behind: 0s to 24h; its host waits so long \
             for it to apply what it received, before the master is closed. In a failover a copy \
             that still applies what it received is waited for as long as it comes on; it is \
             passed over when nothing more was applied for so long and 10 s.",
        ),
        fixed(
            "hung_after",
            "\"5s\"",
            "Silent for so long with an idle process is hung: 1s to 10m, and at least `timeout`.",
        ),
        fixed(
            "candidate_wait",
            "\"1s\"",
            "How long a failover waits for a copy that has not told its position: 100ms to 60s.",
        ),
        fixed(
            "acknowledgements",
            "1",
            "With `loss = \"none\"`: so many copies must have a commit before it is acknowledged: 1 \
             to 8 (MariaDB: 1).",
        ),
        fixed(
            "max_attempts",
            "5",
            "How many promotions one failover tries, of copies and after a slow store: 1 to 100.",
        ),
        fixed("interval", "\"1s\"", "How often each instance is asked for its role: 100ms to 60s."),
        fixed("timeout", "\"500ms\"", "How long it may take to answer: 10ms to 30s."),
    ],
};

/// `[service.NAME.cooldown]`.
pub const COOLDOWN: Section = Section {
    path: "service.NAME.cooldown",
    header: "[service.foo-redis.cooldown]",
    about: "After so many failovers within the window, sengu stops moving by itself and asks.",
    keys: &[
        fixed("failovers", "3", "Completed failovers: 1 to 100."),
        fixed("window", "\"10m\"", "The window: 1s to 168h."),
    ],
};

/// `[service.NAME.tls]`.
pub const TLS: Section = Section {
    path: "service.NAME.tls",
    header: "[service.foo-redis.tls]",
    about: "Its presence, even empty, makes the agent speak TLS to the instances.",
    keys: &[
        found(
            "ca",
            "\"/etc/sengu/ca.pem\"",
            "the certificates that the system trusts",
            "PEM file with the certificates to trust.",
        ),
        found(
            "certificate",
            "\"/etc/sengu/client.pem\"",
            "none",
            "PEM file with the client's certificate; together with `key`.",
        ),
        found(
            "key",
            "\"/etc/sengu/client.key\"",
            "none",
            "PEM file with the client's private key; together with `certificate`.",
        ),
    ],
};

/// `[service.NAME.instance.NAME]`.
pub const INSTANCE: Section = Section {
    path: "service.NAME.instance.NAME",
    header: "[service.foo-redis.instance.cache1]",
    about: "One server of the service on this host. NAME is one DNS label, unique in the service.",
    keys: &[
        required(
            "address",
            "\"10.0.0.11:6379\"",
            "Where clients and replicas reach it; an address of this machine.",
        ),
        found(
            "zone",
            "\"a\"",
            "none",
            "Where it stands: one DNS label. Between equals of one priority a copy in the last \
             master's zone is preferred.",
        ),
        fixed(
            "priority",
            "100",
            "The lower is preferred between equals, which hold as much and have little left to \
             apply; 0 is never promoted: 0 to 1000.",
        ),
    ],
};

/// `[[template]]`.
pub const TEMPLATE: Section = Section {
    path: "template",
    header: "[[template]]",
    about: "A file to render whenever what it shows changes. May stand several times.",
    keys: &[
        required(
            "source",
            "\"hosts.tera\"",
            "A template that sengu brings, by name, or a file; relative to this file's folder.",
        ),
        required("destination", "\"/etc/hosts\"", "The file that it becomes; absolute."),
        found(
            "command",
            "[\"systemctl\", \"reload\", \"dnsmasq\"]",
            "none",
            "Program and arguments to run after the file changed; no shell.",
        ),
        found(
            "validate",
            "[\"/usr/sbin/haproxy\", \"-c\", \"-f\", \"{}\"]",
            "none",
            "Program that looks at the new file (`{}`) before it replaces the old one; anything \
             but exit code 0 refuses it.",
        ),
        fixed("timeout", "\"30s\"", "How long either program may run: 100ms to 10m."),
        fixed(
            "wait_min",
            "\"100ms\"",
            "Quiet time before a render: 0s to 60s. The withdrawal of a master does not wait.",
        ),
        fixed("wait_max", "\"1s\"", "The longest wait while changes go on: `wait_min` to 10m."),
        fixed("allow_empty", "false", "May the file become empty?"),
        fixed(
            "min_records",
            "0",
            "Given fewer hosts and servers than this, the last good lines are kept (masters \
             withdrawn): 0 to 100000.",
        ),
        found(
            "block",
            "true",
            "`true` for `hosts.tera`, `false` for others",
            "Are only the lines between sengu's markers sengu's, and all others kept?",
        ),
        fixed(
            "in_place",
            "false",
            "Write over the file instead of replacing it, as a mount point needs it (`/etc/hosts` \
             in a container). Not atomic: a reader may see half of each.",
        ),
        fixed("backup", "false", "Keep the file that was replaced as `NAME.bak`?"),
        found(
            "owner",
            "\"root:haproxy\"",
            "as the old file has it, else the agent's",
            "The file's user, or user and group.",
        ),
        found("mode", "\"0640\"", "as the old file has it, else 0644", "The file's mode."),
    ],
};

/// `[[hook]]`.
pub const HOOK: Section = Section {
    path: "hook",
    header: "[[hook]]",
    about: "A program to run, or a URL to call, at a step of a move, on the host of the new \
            master; `detected`, `fenced` and `role-changed` on each host that it concerns. May \
            stand several times; the hooks of one phase run in the order of the file.",
    keys: &[
        required(
            "phase",
            "\"before-failover\"",
            "When: `before-failover`, `after-failover`, `failed-failover`, `before-switchover`, \
             `after-switchover`, `detected`, `fenced` or `role-changed`.",
        ),
        found("services", "[\"foo-redis\"]", "all services of this file", "For which services."),
        required(
            "command",
            "[\"/usr/local/bin/announce\"]",
            "Program and arguments; no shell. What it needs to know stands in `SENGU_…` \
             variables. Or a `url` in its place.",
        ),
        found(
            "url",
            "\"https://chat.example/hook\"",
            "none",
            "Called with POST, with the same facts as JSON; 2xx is success.",
        ),
        found(
            "token",
            "\"/etc/sengu/chat.token\"",
            "none",
            "File with a token for the `url`, sent as `Authorization: Bearer`; read at each call.",
        ),
        found("user", "\"www-data\"", "the agent's", "User, or `user:group`, of the program."),
        fixed("folder", "\"/\"", "The folder that the program runs in; absolute."),
        fixed("timeout", "\"10s\"", "How long it may take: 100ms to 10m."),
        fixed(
            "on_error",
            "\"continue\"",
            "What its failure means: `continue`, or `abort` (in the `before-` phases only).",
        ),
    ],
};

/// All sections, in the order in which they are shown.
pub const SECTIONS: [Section; 15] = [
    TOP,
    STORE,
    STORE_TLS,
    DNS,
    HTTP,
    HTTP_TLS,
    HTTP_LIMITS,
    TOKEN,
    CHECKS,
    SERVICE,
    COOLDOWN,
    TLS,
    INSTANCE,
    TEMPLATE,
    HOOK,
];

impl Section {
    /// Whether it is named by the operator or may stand several times, and so has no place in a
    /// file that only holds defaults.
    #[must_use]
    pub fn repeats(&self) -> bool {
        self.path.contains("NAME") || self.header.starts_with("[[")
    }

    /// Everything that may stand in it: keys, and tables below it.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let below = SECTIONS.iter().filter_map(|section| {
            let rest = if self.path.is_empty() {
                section.path
            } else {
                section.path.strip_prefix(self.path)?.strip_prefix('.')?
            };
            rest.split('.').next().filter(|name| !name.is_empty())
        });
        let below: BTreeSet<_> = below.collect();
        self.keys.iter().map(|key| key.name).chain(below)
    }
}
