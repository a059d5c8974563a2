//! One request in, one response out: the same for UDP and TCP.
//!
//! Checks what the protocol asks for (operation, EDNS version, one question, class), asks the
//! core, and sends names of others on to the forwarder.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{
    Edns, Header, HeaderCounts, Metadata, OpCode, Query, ResponseCode,
};
use hickory_server::proto::rr::{DNSClass, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use sengu_core::catalog::Catalog;
use sengu_core::dns::{Answer, Directory, Settings, answer_with};
use sengu_core::kv::Revision;
use tokio::sync::Semaphore;

use super::forward::Forwarder;
use super::rates::{Rates, Share};
use super::wire::{self, Response};
use crate::clock;
use crate::view::View;

/// Datagrams in work at a time; more are dropped, and their clients ask again.
const DATAGRAMS: usize = 1024;

/// Answers requests. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(super) struct Handler(Arc<Desk>);

struct Desk {
    settings: Settings,
    view: Arc<View>,
    forwarder: Option<Forwarder>,
    datagrams: Semaphore,
    rates: Rates,
    seed: AtomicU64,
    directory: ArcSwapOption<(Revision, Arc<Directory>)>,
}

impl Handler {
    /// Answers from `view`; without a forwarder names of others are refused.
    pub(super) fn new(
        settings: Settings,
        view: Arc<View>,
        forwarder: Option<Forwarder>,
        rates: Rates,
    ) -> Self {
        // No secret hangs on the order of addresses; without entropy it starts alike each time.
        let seed = getrandom::u64().unwrap_or(0);
        Self(Arc::new(Desk {
            settings,
            view,
            forwarder,
            datagrams: Semaphore::new(DATAGRAMS),
            rates,
            seed: AtomicU64::new(seed),
            directory: ArcSwapOption::empty(),
        }))
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let began = std::time::Instant::now();
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let _permit = match (request.protocol(), self.0.datagrams.try_acquire()) {
            (Protocol::Udp, Err(_)) => {
                tracing::debug!(client = %request.src(), "dns is full: a datagram was dropped");
                metadata.response_code = ResponseCode::ServFail;
                return info(metadata);
            }
            (_, permit) => permit,
        };
        let limit = wire::limit(request.protocol(), request.edns.as_ref());
        let edns = request.edns.as_ref().map(|edns| wire::edns(edns, limit));
        let share = match request.protocol() {
            Protocol::Udp => self.0.rates.take(request.src().ip(), began),
            _ => Share::Answered,
        };
        let mut response = match share {
            Share::Answered => self.0.respond(request, metadata, edns).await,
            Share::Sent => {
                limited("sent-to-tcp");
                let mut response = Response::empty(metadata, edns);
                response.metadata.truncation = true;
                response
            }
            Share::Dropped => {
                limited("dropped");
                metadata.response_code = ResponseCode::ServFail;
                return info(metadata);
            }
        };
        response.fit(&request.queries, limit);

        let metadata = response.metadata;
        counted(request.protocol(), metadata.response_code, began.elapsed());
        let message = MessageResponseBuilder::new(&request.queries, response.edns.as_ref()).build(
            metadata,
            &response.answers,
            &response.authority,
            [],
            &response.additional,
        );
        handle.send_response(message).await.unwrap_or_else(|error| {
            tracing::debug!(client = %request.src(), %error, "dns could not send an answer");
            info(metadata)
        })
    }
}

/// Counts what went beyond a bound.
pub(super) fn limited(what: &'static str) {
    crate::metrics::get().dns_limited.get_or_create(&[("what", what)]).inc();
}

fn counted(protocol: Protocol, code: ResponseCode, took: std::time::Duration) {
    let protocol = if protocol == Protocol::Udp { "udp" } else { "tcp" };
    let code = match code {
        ResponseCode::NoError => "noerror",
        ResponseCode::NXDomain => "nxdomain",
        ResponseCode::ServFail => "servfail",
        ResponseCode::Refused => "refused",
        _ => "other",
    };
    crate::metrics::get().resolved(protocol, code, took);
}

fn info(metadata: Metadata) -> ResponseInfo {
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}

impl Desk {
    async fn respond(&self, request: &Request, metadata: Metadata, edns: Option<Edns>) -> Response {
        let mut response = Response::empty(metadata, edns);
        let query = match question_of(request) {
            Ok(query) => query,
            Err(code) => {
                response.metadata.response_code = code;
                return response;
            }
        };
        let allowed = self.forwarder.as_ref().filter(|f| f.serves(request.src().ip()));
        response.metadata.recursion_available = allowed.is_some();

        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let asked = wire::question(&query.name, query.query_type, seed);
        let picture = self.view.picture();
        let directory = |catalog: &Catalog| self.directory(catalog);
        match answer_with(&picture, clock::time(), &self.settings, &asked, &directory) {
            Answer::Ours(reply) => {
                response.metadata.authoritative = true;
                if !reply.exists {
                    response.metadata.response_code = ResponseCode::NXDomain;
                }
                response.fill(&reply, &query.name);
                let here = request.src().ip().to_canonical().is_loopback();
                if query.query_type == RecordType::ANY
                    && request.protocol() == Protocol::Udp
                    && !here
                {
                    response.least();
                }
            }
            Answer::Unknown => response.metadata.response_code = ResponseCode::ServFail,
            Answer::Elsewhere => match allowed {
                Some(forwarder) if request.metadata.recursion_desired => {
                    forwarder.forward(request, query, &mut response).await;
                }
                _ => response.metadata.response_code = ResponseCode::Refused,
            },
        }
        response
    }

    /// The directory of this revision: made once, when first needed.
    fn directory(&self, catalog: &Catalog) -> Arc<Directory> {
        if let Some(kept) = &*self.directory.load()
            && kept.0 == catalog.revision
        {
            return Arc::clone(&kept.1);
        }
        let directory = Arc::new(Directory::of(catalog));
        self.directory.store(Some(Arc::new((catalog.revision, Arc::clone(&directory)))));
        directory
    }
}

/// The one question of a request that can be answered, or the code that says why not.
fn question_of(request: &Request) -> Result<&Query, ResponseCode> {
    // The version first: of a later one not even the rest can be judged (RFC 6891).
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Err(ResponseCode::BADVERS);
    }
    if request.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    let [query] = request.queries.queries() else { return Err(ResponseCode::FormErr) };
    let query = query.original();
    if query.query_class != DNSClass::IN {
        return Err(ResponseCode::Refused);
    }
    match query.query_type {
        RecordType::AXFR | RecordType::IXFR => Err(ResponseCode::NotImp),
        RecordType::OPT => Err(ResponseCode::FormErr),
        _ => Ok(query),
    }
}
