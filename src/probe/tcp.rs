//! `probe = "tcp"`: does anybody accept a connection there?
//!
//! Connects and closes; sends nothing. Without `address` it is the instance's own.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use sengu_core::health::Judged;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Kind, Probe, Scene};
use crate::duration;

pub(super) const KIND: Kind = Kind {
    name: "tcp",
    read: |keys| Some(Arc::new(TcpProbe { address: keys.address("address") })),
};

#[derive(Debug)]
struct TcpProbe {
    address: Option<SocketAddr>,
}

#[async_trait]
impl Probe for TcpProbe {
    fn name(&self) -> &'static str {
        KIND.name
    }

    async fn look(&self, scene: &Scene<'_>) -> Judged {
        let address = self.address.unwrap_or(scene.target.address);
        match timeout(scene.timeout, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Judged::passing(scene.now, format!("{address} accepts connections")),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                Judged::failing(scene.now, format!("refused: nobody listens on {address}"))
            }
            Ok(Err(error)) if ours(&error) => {
                Judged::unknown(scene.now, format!("cannot ask {address}: {error}"))
            }
            Ok(Err(error)) => Judged::failing(scene.now, format!("{address}: {error}")),
            Err(_) => {
                let within = duration::format(scene.timeout);
                Judged::failing(scene.now, format!("slow: {address} took longer than {within}"))
            }
        }
    }
}

/// Is the fault on this side: no file descriptor, no free port, no memory?
fn ours(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let own = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| own.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sengu_core::health::Status;
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::super::fixture::Stage;
    use super::*;

    #[tokio::test]
    async fn a_listener_passes_and_nobody_is_refused() {
        let mut stage = Stage::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        stage.target.address = address;
        let own = Stage::check("[[all]]\nprobe = \"tcp\"");
        let judged = own.all[0].look(&stage.scene(0)).await;
        assert_eq!(judged.output, format!("{address} accepts connections"));
        assert_eq!(judged.status, Status::Passing);

        stage.target.address = "127.0.0.1:1".parse().expect("an address");
        let other = Stage::check(&format!("[[all]]\nprobe = \"tcp\"\naddress = \"{address}\""));
        assert_eq!(other.all[0].look(&stage.scene(0)).await.status, Status::Passing);

        drop(listener);
        let judged = other.all[0].look(&stage.scene(0)).await;
        assert_eq!(judged.output, format!("refused: nobody listens on {address}"));
        assert_eq!(judged.status, Status::Critical);
    }

    #[tokio::test]
    async fn a_full_queue_is_slow_not_refused() {
        let mut stage = Stage { timeout: Duration::from_millis(200), ..Stage::default() };
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        full.bind(&any.into()).expect("a free port");
        full.listen(0).expect("listens");
        let address = full.local_addr().expect("bound").as_socket().expect("an address");
        // Nobody accepts: the queue holds one connection, then the kernel drops the asking.
        let mut held = Vec::new();
        for _ in 0..4 {
            let asked = timeout(Duration::from_millis(100), TcpStream::connect(address)).await;
            held.extend(asked.ok().and_then(Result::ok));
        }
        stage.target.address = address;
        let judged = Stage::check("[[all]]\nprobe = \"tcp\"").all[0].look(&stage.scene(0)).await;
        assert_eq!(judged.output, format!("slow: {address} took longer than 200ms"));
        assert_eq!(judged.status, Status::Critical);
    }
}
