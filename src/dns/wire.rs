//! From typed answers to wire format, and never more of them than fit.
//!
//! The encoder of hickory cuts a message where it is full and writes the EDNS record last, so a
//! message that is cut by it may lack that record. Hence answers are cut here, before.

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Metadata};
use hickory_server::proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_server::proto::rr::rdata::{A, AAAA, NS, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::zone_handler::{MessageResponseBuilder, Queries};
use sengu_core::dns::{self, Data, Kind, Owner, Question};

/// The largest datagram sent, in bytes: what passes without fragments on any usual path.
pub(super) const LARGEST_DATAGRAM: u16 = 1232;

/// The largest datagram to a client that does not speak EDNS (RFC 1035).
const PLAIN_DATAGRAM: u16 = 512;

/// Longest character string of a TXT record.
const TXT_STRING: usize = 255;

/// A whole response but its question, which is repeated byte for byte from the request.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) metadata: Metadata,
    pub(super) answers: Vec<Record>,
    pub(super) authority: Vec<Record>,
    pub(super) additional: Vec<Record>,
    pub(super) edns: Option<Edns>,
}

impl Response {
    /// Without records.
    pub(super) fn empty(metadata: Metadata, edns: Option<Edns>) -> Self {
        let (answers, authority, additional) = (Vec::new(), Vec::new(), Vec::new());
        Self { metadata, answers, authority, additional, edns }
    }

    /// Puts an answer of ours in; `asked` is the name in the client's case.
    pub(super) fn fill(&mut self, reply: &dns::Reply, asked: &Name) {
        let encode = |records: &[dns::Record]| -> Vec<Record> {
            records.iter().filter_map(|each| record(each, asked)).collect()
        };
        self.answers = encode(&reply.answers);
        self.authority = encode(&reply.authority);
        self.additional = encode(&reply.additional);
    }

    /// Keeps one kind of record: all that ANY gets where it could be aimed at others (RFC 8482).
    pub(super) fn least(&mut self) {
        let first = self.answers.first().map(Record::record_type);
        self.answers.retain(|record| Some(record.record_type()) == first);
        self.additional.clear();
    }

    /// Leaves out what does not fit into `limit` bytes: additional records first, without a
    /// word; then answers from the end, which sets TC.
    pub(super) fn fit(&mut self, queries: &Queries, limit: u16) {
        if self.fits(queries, limit, self.answers.len(), self.additional.len()) {
            return;
        }
        let all = self.answers.len();
        let additional = most(self.additional.len(), |n| self.fits(queries, limit, all, n));
        if let Some(additional) = additional {
            self.additional.truncate(additional);
            return;
        }
        self.additional.clear();
        if !self.fits(queries, limit, 0, 0) {
            self.authority.clear();
        }
        let answers = most(all, |n| self.fits(queries, limit, n, 0));
        self.answers.truncate(answers.unwrap_or(0));
        self.metadata.truncation = true;
    }

    fn fits(&self, queries: &Queries, limit: u16, answers: usize, additional: usize) -> bool {
        let mut bytes = Vec::with_capacity(usize::from(PLAIN_DATAGRAM));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(limit);
        let mut metadata = self.metadata;
        metadata.truncation = false;
        MessageResponseBuilder::new(queries, self.edns.as_ref())
            .build(
                metadata,
                &self.answers[..answers],
                &self.authority,
                [],
                &self.additional[..additional],
            )
            .destructive_emit(&mut encoder)
            .is_ok_and(|info| !info.truncation)
    }
}

/// The largest number up to `all` for which `good` holds, if it holds for 0 and for all below.
fn most(all: usize, good: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, all + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if good(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low.checked_sub(1)
}

/// How many bytes a response may have.
pub(super) fn limit(protocol: Protocol, edns: Option<&Edns>) -> u16 {
    match (protocol, edns) {
        (Protocol::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_DATAGRAM, LARGEST_DATAGRAM),
        (Protocol::Udp, None) => PLAIN_DATAGRAM,
        _ => u16::MAX,
    }
}

/// The EDNS record that answers a client's (RFC 6891): the DO bit as it came (RFC 3225), a
/// client subnet repeated with scope 0, since answers depend on none (RFC 7871).
pub(super) fn edns(request: &Edns, limit: u16) -> Edns {
    let mut edns = Edns::new();
    // The encoder takes its limit from here, so this must not be more than the client takes.
    edns.set_max_payload(limit.min(LARGEST_DATAGRAM));
    edns.set_dnssec_ok(request.flags().dnssec_ok);
    if let Some(EdnsOption::Subnet(subnet)) = request.option(EdnsCode::Subnet)
        && let Ok(mut bytes) = Vec::<u8>::try_from(subnet)
        && let Some(scope) = bytes.get_mut(3)
    {
        *scope = 0;
        edns.options_mut().insert(EdnsOption::Unknown(EdnsCode::Subnet.into(), bytes));
    }
    edns
}

/// The question as the core takes it.
pub(super) fn question(name: &Name, kind: RecordType, seed: u64) -> Question {
    let labels = name.iter().map(|label| String::from_utf8_lossy(label).into_owned()).collect();
    let kind = match kind {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::SRV => Kind::Srv,
        RecordType::TXT => Kind::Txt,
        RecordType::PTR => Kind::Ptr,
        RecordType::SOA => Kind::Soa,
        RecordType::NS => Kind::Ns,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    };
    Question { labels, kind, seed }
}

/// `None` if a name is too long for DNS; the record is then left out.
fn record(record: &dns::Record, asked: &Name) -> Option<Record> {
    let owner = match &record.owner {
        Owner::Asked => asked.clone(),
        Owner::Name(text) => name(text)?,
    };
    let data = match &record.data {
        Data::A(address) => RData::A(A(*address)),
        Data::Aaaa(address) => RData::AAAA(AAAA(*address)),
        Data::Srv { priority, weight, port, target } => {
            RData::SRV(SRV::new(*priority, *weight, *port, name(target)?))
        }
        Data::Txt(text) if text.is_empty() => RData::TXT(TXT::from_bytes(vec![b""])),
        Data::Txt(text) => {
            RData::TXT(TXT::from_bytes(text.as_bytes().chunks(TXT_STRING).collect()))
        }
        Data::Ptr(text) => RData::PTR(PTR(name(text)?)),
        Data::Ns(text) => RData::NS(NS(name(text)?)),
        Data::Soa { server, mailbox, serial, minimum } => RData::SOA(SOA::new(
            name(server)?,
            name(mailbox)?,
            *serial,
            3600,
            600,
            86_400,
            *minimum,
        )),
    };
    Some(Record::from_rdata(owner, record.ttl, data))
}

fn name(text: &str) -> Option<Name> {
    Name::from_labels(text.split('.').map(str::as_bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::most;

    #[test]
    fn the_most_that_fits() {
        for all in 0..9 {
            for edge in 0..12_usize {
                let want = edge.checked_sub(1).map(|edge| edge.min(all));
                assert_eq!(most(all, |n| n < edge), want, "{all} {edge}");
            }
        }
    }
}
