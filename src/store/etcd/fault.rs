//! What an error of etcd means: which request is certainly not done, and which may have been.
//!
//! Everything that is not known for sure counts as lost, so that an error which nobody has met
//! yet is "the store is unavailable", and never "somebody else has the role".

use std::error::Error as _;

use etcd_client::Error;
use tonic::Code;

use crate::store::StoreError;

/// How one attempt at one member failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Certainly not done, and another member may do it: no connection, no leader, behind.
    Elsewhere(String),
    /// Certainly not done, and no member would.
    Refused(String),
    /// What was asked for is older than what is kept.
    Compacted(String),
    /// Certainly not done for want of a size; less may be asked for.
    TooLarge(String),
    /// Nobody knows.
    Lost(String),
}

impl Fault {
    /// Its words.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Elsewhere(why)
            | Self::Refused(why)
            | Self::Compacted(why)
            | Self::TooLarge(why)
            | Self::Lost(why) => why,
        }
    }

    /// Would another member answer the same?
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Compacted(_) | Self::TooLarge(_) => true,
            Self::Elsewhere(_) | Self::Lost(_) => false,
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(why) | Fault::Compacted(why) | Fault::TooLarge(why) => {
                Self::Refused(why)
            }
            Fault::Elsewhere(why) | Fault::Lost(why) => Self::Unknown(why),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => of_status(&status),
            // From building a connection, before anything is sent.
            Error::TransportError(error) => Self::Elsewhere(chain(&error)),
            Error::InvalidUri(error) => Self::Refused(error.to_string()),
            Error::InvalidArgs(why) => Self::Refused(why),
            error => Self::Lost(error.to_string()),
        }
    }
}

fn of_status(status: &tonic::Status) -> Fault {
    let said = status.message();
    let why = said.strip_prefix("etcdserver: ").unwrap_or(said).to_owned();
    match status.code() {
        _ if never_connected(status) => Fault::Elsewhere(chain(status)),
        Code::Unavailable if said == "etcdserver: no leader" => Fault::Elsewhere(why),
        // Refused at the door, before it is proposed.
        Code::ResourceExhausted if said.ends_with("too many requests") => Fault::Elsewhere(why),
        Code::ResourceExhausted if said.ends_with("database space exceeded") => {
            Fault::Refused(format!(
                "{why}: compact and defragment etcd, raise its quota, then `etcdctl alarm disarm`"
            ))
        }
        Code::OutOfRange if said.ends_with("has been compacted") => Fault::Compacted(why),
        // The member is behind the one that told the revision.
        Code::OutOfRange if said.ends_with("future revision") => Fault::Elsewhere(why),
        // The client's own limit: the answer was not read.
        Code::OutOfRange if said.contains("message length too large") => Fault::TooLarge(why),
        // Accounts were changed under the token; the next attempt has a new one.
        Code::InvalidArgument if said.ends_with("auth store is old") => Fault::Elsewhere(why),
        Code::InvalidArgument if said.ends_with("user name is empty") => Fault::Refused(
            "etcd asks for a user and password: set `credentials` in [store]".to_owned(),
        ),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => Fault::Refused(why),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Fault::Lost(if why.is_empty() { chain(status) } else { why }),
    }
}

/// Was there no connection to send it over?
fn never_connected(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// An error with its causes, each once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let word = match error.downcast_ref::<tonic::Status>() {
            Some(status) => status.message().to_owned(),
            None => error.to_string(),
        };
        if !word.is_empty() && !words.iter().any(|said| said.contains(&word)) {
            words.push(word);
        }
        next = error.source();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn only_what_is_certain_counts_as_not_done() {
        let rows = [
            (Status::unavailable("etcdserver: no leader"), "elsewhere"),
            (Status::unavailable("etcdserver: leader changed"), "lost"),
            (Status::unavailable("etcdserver: request timed out"), "lost"),
            (
                Status::unavailable(
                    "etcdserver: request timed out, possibly due to previous leader failure",
                ),
                "lost",
            ),
            (Status::unavailable("etcdserver: server stopped"), "lost"),
            (Status::resource_exhausted("etcdserver: too many requests"), "elsewhere"),
            (Status::resource_exhausted("etcdserver: mvcc: database space exceeded"), "refused"),
            (
                Status::out_of_range("etcdserver: mvcc: required revision has been compacted"),
                "compacted",
            ),
            (
                Status::out_of_range("etcdserver: mvcc: required revision is a future revision"),
                "elsewhere",
            ),
            (Status::not_found("etcdserver: requested lease not found"), "refused"),
            (Status::permission_denied("etcdserver: permission denied"), "refused"),
            (Status::invalid_argument("etcdserver: user name is empty"), "refused"),
            (Status::unknown("something new"), "lost"),
            (Status::internal("h2 protocol error"), "lost"),
            (Status::cancelled("dropped"), "lost"),
        ];
        for (status, wanted) in rows {
            let shown = status.to_string();
            let found = match Fault::from(Error::GRpcStatus(status)) {
                Fault::Elsewhere(_) => "elsewhere",
                Fault::Refused(_) => "refused",
                Fault::Compacted(_) => "compacted",
                Fault::TooLarge(_) => "too large",
                Fault::Lost(_) => "lost",
            };
            assert_eq!(found, wanted, "{shown}");
        }
    }
}
