//! Connections to one Redis server: how they are opened, and what is known of each.
//!
//! Deadlines are the caller's, around everything: the client library's own ones are off, and so
//! are its retries. A [`Session`] knows its server's id for it and the process it leads to, so
//! that it can be ended from another connection and never reaches another life of the server.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, TlsCertificates, Value,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::reply::{Fault, Info, checked, number};
use crate::config::{Credentials, TlsConfig};

/// How long a server that hangs up on a new connection is given to say why.
const REASON_WAIT: Duration = Duration::from_millis(100);

/// Longest such reason.
const MAX_REASON: usize = 256;

/// Opens connections with one set of credentials.
pub(super) struct Dialer {
    /// Never shown.
    credentials: Option<Credentials>,
    tls: Option<TlsCertificates>,
}

impl Dialer {
    /// Reads the certificates, if there are any to read.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub(super) fn new(
        credentials: Option<&Credentials>,
        tls: Option<&TlsConfig>,
    ) -> Result<Self, String> {
        if tls.is_some() {
            // Fails if one is installed already, which is as good.
            let _installed = rustls::crypto::ring::default_provider().install_default();
        }
        let tls = tls.map(certificates).transpose()?;
        Ok(Self { credentials: credentials.cloned(), tls })
    }

    /// Opens a connection and logs in. Bounded by the caller only.
    pub(super) async fn dial(&self, address: SocketAddr) -> Result<MultiplexedConnection, Fault> {
        let client = self.client(address).map_err(Fault::from)?;
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let dialled = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = match dialled.map_err(Fault::from) {
            Ok(connection) => connection,
            Err(fault) => return Err(self.reason(address, fault).await),
        };
        // Not left to the library, which keeps the reason of a refusal to itself.
        if let Some(Credentials { user, password, .. }) = &self.credentials {
            let mut login = redis::pipe();
            login.cmd("AUTH").arg(user.as_deref()).arg(password);
            match self.ask(&mut connection, &mut login).await {
                // A server without `AUTH` repeats what it was sent.
                Ok(replies) => replies.iter().try_for_each(|reply| {
                    checked(reply).map(|_| ()).map_err(|fault| self.scrubbed(fault))
                })?,
                Err(fault) => return Err(self.reason(address, fault).await),
            }
        }
        Ok(connection)
    }

    /// Sends commands in one go, in order, and brings back each one's reply, error or not.
    pub(super) async fn ask(
        &self,
        connection: &mut MultiplexedConnection,
        commands: &mut Pipeline,
    ) -> Result<Vec<Value>, Fault> {
        let replies: Result<Value, _> = commands.ignore_errors().query_async(connection).await;
        match replies.map_err(|error| self.scrubbed(error.into()))? {
            Value::Array(replies) => Ok(replies),
            _ => Err(Fault::Odd("no list of replies".to_owned())),
        }
    }

    fn client(&self, address: SocketAddr) -> redis::RedisResult<Client> {
        let (host, port) = (address.ip().to_string(), address.port());
        let info = |address: ConnectionAddr| -> redis::RedisResult<_> {
            let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
            Ok(address.into_connection_info()?.set_redis_settings(settings))
        };
        match &self.tls {
            None => Client::open(info(ConnectionAddr::Tcp(host, port))?),
            Some(certificates) => {
                let tls = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                Client::build_with_tls(info(tls)?, certificates.clone())
            }
        }
    }

    /// A full server says so and hangs up at once, and what it said can get lost on the way when
    /// something was sent to it meanwhile: it is asked again by listening only.
    pub(super) async fn reason(&self, address: SocketAddr, fault: Fault) -> Fault {
        if self.tls.is_some() || !matches!(fault, Fault::Broken(_)) {
            return fault;
        }
        let listen = async {
            let mut stream = TcpStream::connect(address).await.ok()?;
            let mut said = Vec::new();
            let limit = u64::try_from(MAX_REASON).unwrap_or(u64::MAX);
            (&mut stream).take(limit).read_to_end(&mut said).await.ok()?;
            String::from_utf8(said).ok()
        };
        match timeout(REASON_WAIT, listen).await {
            Ok(Some(said)) if said.contains("max number of clients") => Fault::TooManyClients,
            _ => fault,
        }
    }

    /// Takes the password out of a server's words, should it ever repeat it.
    fn scrubbed(&self, fault: Fault) -> Fault {
        let password = self.credentials.as_ref().map(|login| login.password.as_str());
        let Some(password) = password.filter(|password| !password.is_empty()) else {
            return fault;
        };
        let clean = |text: String| text.replace(password, "***");
        match fault {
            Fault::Denied(text) => Fault::Denied(clean(text)),
            Fault::Broken(text) => Fault::Broken(clean(text)),
            Fault::Server(text) => Fault::Server(clean(text)),
            Fault::Odd(text) => Fault::Odd(clean(text)),
            other => other,
        }
    }
}

fn certificates(tls: &TlsConfig) -> Result<TlsCertificates, String> {
    let read = |file: &Path| {
        fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
    };
    let client_tls = match &tls.identity {
        Some((certificate, key)) => {
            Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
        }
        None => None,
    };
    Ok(TlsCertificates { client_tls, root_cert: tls.ca.as_deref().map(read).transpose()? })
}

/// A connection that its server knows by an id.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) connection: MultiplexedConnection,
    /// The server's id for it; never used again by the same server. `None` while the server
    /// answers nothing but a script's end.
    pub(super) id: Option<u64>,
    /// The process that it leads to.
    pub(super) process: Option<Arc<crate::process::Process>>,
    /// What the server told of itself when it was opened: pid and run id.
    pub(super) server: Option<(u32, String)>,
}

impl Session {
    /// Opens a connection under a name that `CLIENT LIST` shows, and learns its id. A server
    /// that is busy gives a session without an id: enough to end its script.
    pub(super) async fn open(
        dialer: &Dialer,
        address: SocketAddr,
        name: &str,
    ) -> Result<Self, Fault> {
        let mut connection = dialer.dial(address).await?;
        let mut hello = redis::pipe();
        hello.cmd("CLIENT").arg("SETNAME").arg(name);
        hello.cmd("CLIENT").arg("ID");
        hello.cmd("INFO").arg("server");
        // Redis 7.0 and later; elsewhere an error that does not matter.
        hello.cmd("CLIENT").arg("NO-EVICT").arg("on");
        let replies = match dialer.ask(&mut connection, &mut hello).await {
            Ok(replies) => replies,
            Err(fault) => return Err(dialer.reason(address, fault).await),
        };
        let [_, id, server, _] = replies.as_slice() else {
            return Err(Fault::Odd("too few replies".to_owned()));
        };
        let id = match number(id) {
            Ok(id) => Some(id),
            Err(Fault::Busy) => None,
            Err(fault) => return Err(fault),
        };
        let mut info = Info::default();
        let server = match info.add(server) {
            Ok(()) => info.number("process_id").zip(info.text("run_id").map(str::to_owned)),
            Err(_) => None,
        };
        Ok(Self { connection, id, process: None, server })
    }
}

impl Session {
    /// False once it is sure to lead nowhere: its process has exited.
    pub(super) fn may_live(&self) -> bool {
        self.process.as_ref().is_none_or(|process| !process.is_gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_stands_in_a_fault() {
        let credentials = Credentials { password: "s3cret".to_owned(), ..Credentials::default() };
        let dialer = Dialer::new(Some(&credentials), None).expect("no files to read");
        for fault in [
            Fault::Denied("WRONGPASS s3cret".to_owned()),
            Fault::Broken("s3cret".to_owned()),
            Fault::Server("ERR 's3cret'".to_owned()),
            Fault::Odd("s3cret".to_owned()),
        ] {
            let shown = dialer.scrubbed(fault).to_string();
            assert!(!shown.contains("s3cret") && shown.contains("***"), "{shown}");
        }
    }

    #[test]
    fn an_unreadable_certificate_is_named() {
        let tls = TlsConfig { ca: Some("/nowhere/ca.pem".into()), identity: None };
        let error = Dialer::new(None, Some(&tls)).map(|_| ()).expect_err("not there");
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }
}
