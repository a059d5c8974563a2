//! `probe = "dns"`: does a name lead to nobody, or to this instance alone?
//!
//! Asks the servers named in the check, or the agent's own. It fails closed: a lookup that
//! failed, or was not answered in time, is unknown and never taken for "no address"; two
//! addresses, or another's, fail with the addresses named. The system's resolver and hosts file
//! are never used: they may hold what sengu itself wrote.
//!
//! Under `auto` and `manual` sengu itself sees to it that there is one master, so a name that
//! leads elsewhere is a warning there; under `external` it is critical. Addresses are compared
//! without ports: instances that share an address are not told apart.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use sengu_core::health::Judged;
use sengu_core::policy::Failover;

use super::keys::Keys;
use super::placeholder::{NAMES, fill, words};
use super::problem::nearest;
use super::{Kind, Probe, Scene};
use crate::duration;

pub(super) const KIND: Kind = Kind { name: "dns", read };

/// More servers than this are a slip.
const MOST_SERVERS: usize = 8;
/// So many addresses are named in an output.
const MOST_NAMED: usize = 8;

#[derive(Debug)]
struct DnsProbe {
    name: String,
    servers: Vec<SocketAddr>,
}

fn read(keys: &mut Keys<'_>) -> Option<Arc<dyn Probe>> {
    let name = keys.text("name");
    if keys.choice("at_most", &[("self", ())]).is_none() && !keys.has("at_most") {
        keys.missing("at_most", "\"self\"");
    }
    let servers = keys.addresses("servers", MOST_SERVERS);
    let Some(name) = name else {
        if !keys.has("name") {
            keys.missing("name", "\"master.{service}.service\"");
        }
        return None;
    };
    for word in words(&name.value).filter(|word| !NAMES.contains(word)) {
        let help = match nearest(word, NAMES) {
            Some(meant) => format!("did you mean `{{{meant}}}`?"),
            None => format!("known: {}", NAMES.join(", ")),
        };
        keys.wrong(&name.span, format!("`name`: unknown placeholder `{{{word}}}`"), Some(help));
    }
    let sample = NAMES
        .iter()
        .fold(name.value.clone(), |text, word| text.replace(&format!("{{{word}}}"), "x"));
    if !sample.contains('{')
        && let Err(error) = parsed(&sample)
    {
        keys.wrong(&name.span, format!("`name`: {:?} is no DNS name: {error}", name.value), None);
    }
    Some(Arc::new(DnsProbe { name: name.value, servers }))
}

#[async_trait]
impl Probe for DnsProbe {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn look(&self, scene: &Scene<'_>) -> Judged {
        let servers = if self.servers.is_empty() { &scene.setup.resolvers } else { &self.servers };
        if servers.is_empty() {
            let words = "no DNS server to ask: write `servers` in the check, \
                         or let the agent listen";
            return Judged::unknown(scene.now, words);
        }
        let name = complete(&fill(&self.name, scene), scene);
        let asked = match parsed(&name) {
            Ok(asked) => asked,
            Err(error) => {
                return Judged::unknown(scene.now, format!("{name} is no DNS name: {error}"));
            }
        };
        let looked = match resolver(servers, scene.timeout) {
            Ok(resolver) => lookup(&resolver, &asked, scene.timeout).await,
            Err(error) => Looked { found: BTreeSet::new(), failed: Some(error.to_string()) },
        };
        judge(scene, name.trim_end_matches('.'), &looked)
    }
}

/// What the servers said.
struct Looked {
    found: BTreeSet<IpAddr>,
    /// Why that may not be all.
    failed: Option<String>,
}

fn judge(scene: &Scene<'_>, name: &str, looked: &Looked) -> Judged {
    let own = scene.target.address.ip().to_canonical();
    let others = looked.found.iter().any(|address| *address != own);
    if others {
        let named: Vec<String> =
            looked.found.iter().take(MOST_NAMED).map(ToString::to_string).collect();
        let more = looked.found.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let words = format!("{name} leads to {}{more}, not to {own} alone", named.join(", "));
        return match scene.target.failover {
            Failover::External => Judged::failing(scene.now, words),
            Failover::Auto | Failover::Manual => Judged::warning(scene.now, words),
        };
    }
    match &looked.failed {
        Some(error) => Judged::unknown(scene.now, format!("cannot look up {name}: {error}")),
        None if looked.found.is_empty() => {
            Judged::passing(scene.now, format!("{name} has no address"))
        }
        None => Judged::passing(scene.now, format!("{name} leads to {own} alone")),
    }
}

/// Both families: a second master under the other one must not be missed.
async fn lookup(resolver: &TokioResolver, name: &Name, within: Duration) -> Looked {
    let (v4, v6) = tokio::join!(
        one(resolver, name, RecordType::A, within),
        one(resolver, name, RecordType::AAAA, within),
    );
    let mut looked = Looked { found: BTreeSet::new(), failed: None };
    for result in [v4, v6] {
        match result {
            Ok(found) => looked.found.extend(found),
            Err(error) => looked.failed = looked.failed.or(Some(error)),
        }
    }
    looked
}

async fn one(
    resolver: &TokioResolver,
    name: &Name,
    kind: RecordType,
    within: Duration,
) -> Result<Vec<IpAddr>, String> {
    let asking = resolver.lookup(name.clone(), kind);
    let answer = tokio::time::timeout(within, asking)
        .await
        .map_err(|_| format!("no answer within {}", duration::format(within)))?;
    match answer {
        Ok(lookup) => {
            let address = |data: &RData| match data {
                RData::A(address) => Some(IpAddr::from(address.0)),
                RData::AAAA(address) => Some(IpAddr::from(address.0).to_canonical()),
                _ => None,
            };
            let found = lookup.answers().iter().filter_map(|record| address(&record.data));
            Ok(found.collect())
        }
        // "There is none" counts only from a server that knows: a referral knows nothing.
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
                && (none.ns.is_none() || none.soa.is_some()) =>
        {
            Ok(Vec::new())
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Err("a referral, no answer".into()),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(format!("the server says {code}")),
        Err(error) => Err(error.to_string()),
    }
}

fn resolver(servers: &[SocketAddr], timeout: Duration) -> Result<TokioResolver, NetError> {
    let server = |address: &SocketAddr| {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        for connection in &mut server.connections {
            connection.port = address.port();
        }
        server
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect::<Vec<_>>());
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.attempts = 1;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
}

/// Names that end in `service`, `node` or the datacenter get the agent's first domain, others
/// are taken as whole: a name under a wrong domain would have no address, and pass.
fn complete(name: &str, scene: &Scene<'_>) -> String {
    if name.ends_with('.') {
        return name.to_owned();
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let relative = last.eq_ignore_ascii_case("service")
        || last.eq_ignore_ascii_case("node")
        || last.eq_ignore_ascii_case(&scene.setup.datacenter);
    if relative { format!("{name}.{}.", scene.setup.domain) } else { format!("{name}.") }
}

fn parsed(name: &str) -> Result<Name, String> {
    if name.is_empty() || name == "." {
        return Err("it is empty".into());
    }
    Name::from_ascii(name).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::{NS, SOA};
    use sengu_core::health::Status;
    use tokio::net::UdpSocket;
    use tokio::task::AbortHandle;

    use super::super::fixture::Stage;
    use super::*;

    /// How the server answers one type of question.
    #[derive(Debug, Clone)]
    enum Reply {
        Addresses(Vec<&'static str>),
        NoName,
        NoData,
        Code(ResponseCode),
        Referral,
        Truncated,
        Silence,
    }
    use Reply::{Addresses, Code, NoData, NoName, Referral, Silence, Truncated};

    /// A DNS server over UDP.
    struct Server {
        address: SocketAddr,
        asked: Arc<Mutex<BTreeSet<String>>>,
        task: AbortHandle,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    impl Server {
        async fn start(v4: Reply, v6: Reply) -> Self {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
            let address = socket.local_addr().expect("bound");
            let asked = Arc::<Mutex<BTreeSet<String>>>::default();
            let heard = Arc::clone(&asked);
            let task = tokio::spawn(async move {
                let mut buffer = [0; 1500];
                loop {
                    let (length, from) = socket.recv_from(&mut buffer).await.expect("a packet");
                    let question = Message::from_vec(&buffer[..length]).expect("a question");
                    let name = question.queries[0].name().to_string();
                    heard.lock().expect("whole").insert(name);
                    let v6_asked = question.queries[0].query_type() == RecordType::AAAA;
                    if let Some(answer) = answer(&question, if v6_asked { &v6 } else { &v4 }) {
                        socket.send_to(&answer, from).await.expect("sent");
                    }
                }
            });
            Self { address, asked, task: task.abort_handle() }
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().expect("whole").iter().cloned().collect()
        }
    }

    fn answer(question: &Message, reply: &Reply) -> Option<Vec<u8>> {
        let query = &question.queries[0];
        let mut message = Message::response(question.metadata.id, question.metadata.op_code);
        message.add_query(query.clone());
        let zone = Name::from_ascii("sengu.").expect("a name");
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, 0);
        let authority = Record::from_rdata(zone.clone(), 0, RData::SOA(soa));
        match reply {
            Addresses(addresses) => {
                for address in addresses {
                    let data = match address.parse().expect("an address") {
                        IpAddr::V4(address) => RData::A(address.into()),
                        IpAddr::V6(address) => RData::AAAA(address.into()),
                    };
                    message.add_answer(Record::from_rdata(query.name().clone(), 0, data));
                }
            }
            NoName => {
                message.metadata.response_code = ResponseCode::NXDomain;
                message.add_authority(authority);
            }
            NoData => {
                message.add_authority(authority);
            }
            Code(code) => message.metadata.response_code = *code,
            Referral => {
                message.add_authority(Record::from_rdata(zone.clone(), 0, RData::NS(NS(zone))));
            }
            Truncated => message.metadata.truncation = true,
            Silence => return None,
        }
        Some(message.to_vec().expect("a message"))
    }

    fn check(name: &str, servers: &[SocketAddr]) -> Arc<dyn Probe> {
        let servers: Vec<String> = servers.iter().map(|at| format!("\"{at}\"")).collect();
        let text = format!(
            "[[all]]\nprobe = \"dns\"\nname = \"{name}\"\nat_most = \"self\"\nservers = [{}]",
            servers.join(", ")
        );
        Arc::clone(&Stage::check(&text).all[0])
    }

    const NAME: &str = "master.{service}.service";

    #[tokio::test]
    async fn nobody_or_oneself_passes_another_fails_and_a_failed_lookup_is_unknown() {
        let short = "master.foo-redis.service.sengu";
        for (v4, v6, status, words) in [
            (NoName, NoName, Status::Passing, "has no address"),
            (NoData, NoData, Status::Passing, "has no address"),
            (Addresses(vec!["127.0.0.11"]), NoData, Status::Passing, "leads to 127.0.0.11 alone"),
            (
                Addresses(vec!["127.0.0.12"]),
                NoData,
                Status::Critical,
                "leads to 127.0.0.12, not to 127.0.0.11 alone",
            ),
            (
                Addresses(vec!["127.0.0.12", "127.0.0.11"]),
                NoData,
                Status::Critical,
                "leads to 127.0.0.11, 127.0.0.12, not to 127.0.0.11 alone",
            ),
            (
                Addresses(vec!["127.0.0.11"]),
                Addresses(vec!["2001:db8::2"]),
                Status::Critical,
                "leads to 127.0.0.11, 2001:db8::2, not to 127.0.0.11 alone",
            ),
            // The other family may hold another master: not known, unless one is known already.
            (
                Addresses(vec!["127.0.0.11"]),
                Code(ResponseCode::ServFail),
                Status::Unknown,
                "the server says",
            ),
            (
                Addresses(vec!["127.0.0.12"]),
                Code(ResponseCode::ServFail),
                Status::Critical,
                "leads to 127.0.0.12",
            ),
            (Code(ResponseCode::ServFail), NoName, Status::Unknown, "the server says"),
            (Code(ResponseCode::Refused), NoName, Status::Unknown, "the server says"),
            (Referral, Referral, Status::Unknown, "a referral, no answer"),
        ] {
            let server = Server::start(v4.clone(), v6.clone()).await;
            let stage = Stage::default();
            let judged = check(NAME, &[server.address]).look(&stage.scene(0)).await;
            assert_eq!(judged.status, status, "{v4:?} {v6:?}: {}", judged.output);
            assert!(judged.output.contains(words), "{v4:?} {v6:?}: {}", judged.output);
            assert!(judged.output.contains(short), "{}", judged.output);
        }
    }

    #[tokio::test]
    async fn no_answer_is_unknown_in_time() {
        let stage = Stage { timeout: Duration::from_millis(200), ..Stage::default() };
        let closed = {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.local_addr().expect("bound")
        };
        let silent = Server::start(Silence, Silence).await;
        let half = Server::start(NoName, Silence).await;
        let cut = Server::start(Truncated, Truncated).await;
        for server in [closed, silent.address, half.address, cut.address] {
            let began = Instant::now();
            let judged = check(NAME, &[server]).look(&stage.scene(0)).await;
            assert_eq!(judged.status, Status::Unknown, "{server}: {}", judged.output);
            assert!(judged.output.starts_with("cannot look up master.foo-redis.service.sengu: "));
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }
    }

    #[tokio::test]
    async fn without_servers_of_its_own_it_asks_the_agents() {
        let mut stage = Stage::default();
        let judged = check(NAME, &[]).look(&stage.scene(0)).await;
        assert_eq!(judged.status, Status::Unknown, "{}", judged.output);
        let server = Server::start(NoName, NoName).await;
        stage.setup.resolvers = vec![server.address];
        let judged = check(NAME, &[]).look(&stage.scene(0)).await;
        assert_eq!(judged.status, Status::Passing, "{}", judged.output);
        assert_eq!(server.asked(), ["master.foo-redis.service.sengu."]);
    }

    #[tokio::test]
    async fn sengus_own_services_are_only_warned_of() {
        let server = Server::start(Addresses(vec!["127.0.0.12"]), NoData).await;
        for failover in [Failover::Auto, Failover::Manual] {
            let mut stage = Stage::default();
            stage.target.failover = failover;
            let judged = check(NAME, &[server.address]).look(&stage.scene(0)).await;
            assert_eq!(judged.status, Status::Warning, "{}", judged.output);
        }
    }

    #[test]
    fn names_are_completed_only_where_a_domain_is_missing() {
        let stage = Stage::default();
        for (name, whole) in [
            ("master.foo.service", "master.foo.service.sengu."),
            ("master.foo.service.dc1", "master.foo.service.dc1.sengu."),
            ("db1.node", "db1.node.sengu."),
            ("master.foo.service.consul", "master.foo.service.consul."),
            ("master.foo.service.", "master.foo.service."),
            ("db.example.com", "db.example.com."),
        ] {
            assert_eq!(complete(name, &stage.scene(0)), whole);
        }
    }
}
