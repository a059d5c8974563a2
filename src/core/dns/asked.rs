//! What a name asks for: its labels, taken apart from the right.
//!
//! Purely by form: nothing here looks at the catalog.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Kind, Question, Settings};

/// Where a name belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// Under one of our domains.
    Ours(&'a str, Asked),
    /// The reverse name of this address.
    Reverse(IpAddr),
    /// Anywhere else.
    Elsewhere,
}

/// What is asked under a domain. Texts are in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The domain itself.
    Apex,
    /// A name that only has others below it, as `service.DOMAIN`.
    Inner,
    /// `ns.DOMAIN`, which the SOA names.
    NameServer,
    /// `[tag.]NAME.service`.
    Service {
        /// The service.
        name: String,
        /// Only endpoints with this tag; all labels before the service are one tag.
        tag: Option<String>,
    },
    /// `HOST.node`.
    Node(String),
    /// `HEX.addr`.
    Address(IpAddr),
    /// No form that we know, or another datacenter.
    Nothing,
}

/// Takes a question's name apart.
pub(super) fn place<'a>(settings: &'a Settings, question: &Question) -> Place<'a> {
    let labels: Vec<String> =
        question.labels.iter().map(|label| label.to_ascii_lowercase()).collect();
    let domain = settings
        .domains
        .iter()
        .filter(|domain| labels.ends_with(&domain.labels))
        .max_by_key(|domain| domain.labels.len());
    match domain {
        Some(domain) => {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let inner = &labels[..labels.len() - domain.labels.len()];
            Place::Ours(&domain.text, asked(inner, &settings.datacenter, question.kind))
        }
        None => reverse(&labels).map_or(Place::Elsewhere, Place::Reverse),
    }
}

fn asked(labels: &[&str], datacenter: &str, kind: Kind) -> Asked {
    match labels {
        [] => return Asked::Apex,
        ["ns"] => return Asked::NameServer,
        [dc] if *dc == datacenter => return Asked::Inner,
        _ => {}
    }
    // The word that tells the form is the last label, or the one before the datacenter.
    if let Some(asked) = by_form(labels, kind) {
        return asked;
    }
    match labels.split_last() {
        Some((dc, rest)) if *dc == datacenter => by_form(rest, kind).unwrap_or(Asked::Nothing),
        Some(_) | None => Asked::Nothing,
    }
}

fn by_form(labels: &[&str], kind: Kind) -> Option<Asked> {
    let (form, rest) = labels.split_last()?;
    match (*form, rest) {
        ("service" | "node" | "addr", []) => Some(Asked::Inner),
        ("service", rest) => Some(service(rest)),
        ("node", rest) => Some(Asked::Node(rest.join("."))),
        ("addr", [hex]) => Some(address(hex).map_or(Asked::Nothing, Asked::Address)),
        ("addr", _) => Some(Asked::Nothing),
        // `_name._tcp.DOMAIN`: for SRV the word `service` may be left out.
        (last, [_]) if last.starts_with('_') && kind == Kind::Srv => Some(service(labels)),
        _ => None,
    }
}

fn service(labels: &[&str]) -> Asked {
    if let [name, tag] = labels
        && let Some(name) = name.strip_prefix('_')
        && let Some(tag) = tag.strip_prefix('_')
    {
        let tag = (tag != "tcp").then(|| tag.to_owned());
        return Asked::Service { name: name.to_owned(), tag };
    }
    match labels.split_last() {
        Some((name, tag)) => {
            let tag = (!tag.is_empty()).then(|| tag.join("."));
            Asked::Service { name: (*name).to_owned(), tag }
        }
        None => Asked::Nothing,
    }
}

fn address(hex: &str) -> Option<IpAddr> {
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    match hex.len() {
        8 => u32::from_str_radix(hex, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => u128::from_str_radix(hex, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

/// `4.3.2.1.in-addr.arpa` (RFC 1035) and 32 nibbles under `ip6.arpa` (RFC 3596).
fn reverse(labels: &[String]) -> Option<IpAddr> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [d, c, b, a, "in-addr", "arpa"] => {
            format!("{a}.{b}.{c}.{d}").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let hex: String = nibbles.iter().rev().copied().collect();
            // Each label one digit: any longer one makes the whole too long.
            address(&hex)
        }
        _ => None,
    }
}
