//! Which process listens on an address of this host, by the socket's inode.
//!
//! A server's own word on its pid is a hint that is verified: a proxy in front of it, another
//! pid namespace or another host would make it somebody else's. Without a hint (the server has
//! never answered) only a process of an expected program is accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::{Process, Stat};

/// Less than a line of a table of sockets.
const LINE: usize = 128;

/// Why no process could be named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// The address belongs to another host.
    #[error("{0} is no address of this host")]
    Elsewhere(IpAddr),
    /// No process with such a socket, or the agent may not look at it.
    #[error("no process that listens on {0} was found; the agent must run as root to see it")]
    NotFound(SocketAddr),
    /// Something else listens there than what answered: a proxy, another container.
    #[error(
        "{address} is held by process {pid} ({program}), which is not the server that answers; \
         run the agent where the server runs"
    )]
    Other {
        /// The address.
        address: SocketAddr,
        /// Who listens.
        pid: u32,
        /// Its program.
        program: String,
    },
}

/// Finds the process that listens on an address of this host and takes hold of it.
///
/// `hint` is the pid that the server told of itself. Without it, the process must run one of
/// `programs` (a part of its name suffices).
///
/// # Errors
/// See [`FindError`].
pub fn find(
    address: SocketAddr,
    hint: Option<u32>,
    programs: &[&str],
) -> Result<Process, FindError> {
    if !is_local(address.ip()) {
        return Err(FindError::Elsewhere(address.ip()));
    }
    if let Some(process) = hint.and_then(|pid| open_verified(pid, address)) {
        return Ok(process);
    }
    let inodes = listening("/proc/net", address);
    let holders = holders(&inodes);
    // A forked child holds its parent's sockets for a moment: the parent is meant.
    let mut roots = holders.iter().filter(|(_, parent)| !holders.contains_key(parent));
    let (Some((&pid, _)), None) = (roots.next(), roots.next()) else {
        return Err(FindError::NotFound(address));
    };
    let program = program(pid);
    let expected = match hint {
        Some(hint) => inner_pid(pid) == Some(hint),
        None => programs.iter().any(|name| program.contains(name)),
    };
    if !expected {
        return Err(FindError::Other { address, pid, program });
    }
    open_verified(pid, address).ok_or(FindError::NotFound(address))
}

/// Opens first and verifies after, so that what was verified is what is held.
fn open_verified(pid: u32, address: SocketAddr) -> Option<Process> {
    let process = Process::open(pid).ok()?;
    let inodes = listening(&format!("/proc/{pid}/net"), address);
    (holds(pid, &inodes) && !process.is_gone()).then_some(process)
}

/// Is it an address of this host? Asked of the routing table; nothing is sent.
fn is_local(address: IpAddr) -> bool {
    if address.is_loopback() {
        return true;
    }
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Towards an own address the kernel takes that address as the source.
    UdpSocket::bind((any, 0))
        .and_then(|socket| socket.connect((address, 9)).and_then(|()| socket.local_addr()))
        .is_ok_and(|local| local.ip() == address)
}

/// Inodes of the sockets that listen for this address: on it, or failing that on the wildcard.
fn listening(folder: &str, address: SocketAddr) -> BTreeSet<u64> {
    let mut exact = BTreeSet::new();
    let mut wildcard = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        for (local, inode) in listeners(&format!("{folder}/{table}")) {
            if local.port() != address.port() {
                continue;
            }
            let ip = local.ip().to_canonical();
            if ip == address.ip().to_canonical() {
                exact.insert(inode);
            } else if local.ip().is_unspecified() && (address.is_ipv4() || local.is_ipv6()) {
                wildcard.insert(inode);
            }
        }
        if !exact.is_empty() {
            break;
        }
    }
    if exact.is_empty() { wildcard } else { exact }
}

/// What listens, by a table of sockets. Those that listen stand before all others, and only so far
/// is it read, in pieces of less than a line: to tell of the others the kernel walks through all
/// connections of the machine, anew for each piece.
fn listeners(table: &str) -> Vec<(SocketAddr, u64)> {
    let Ok(file) = File::open(table) else { return Vec::new() };
    let lines = BufReader::with_capacity(LINE, file).lines();
    let lines = lines.map_while(Result::ok).skip(1);
    lines.map_while(|line| listener(&line)).collect()
}

/// One line of `/proc/net/tcp` or `tcp6` (proc_pid_net(5)), if it is a listening socket.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each 32-bit word is in network order in memory and printed as this machine reads it.
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip: IpAddr = if ip.len() == 8 {
        Ipv4Addr::from(word(0)?.to_ne_bytes()).into()
    } else {
        let mut bytes = [0; 16];
        for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
            part.copy_from_slice(&word(index * 8)?.to_ne_bytes());
        }
        Ipv6Addr::from(bytes).into()
    };
    Some((SocketAddr::new(ip, port), fields.get(9)?.parse().ok()?))
}

/// All processes that hold one of these sockets, each with its parent.
fn holders(inodes: &BTreeSet<u64>) -> BTreeMap<u32, u32> {
    if inodes.is_empty() {
        return BTreeMap::new();
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| holds(*pid, inodes))
        .filter_map(|pid| Some((pid, Stat::read(pid).ok()?.parent)))
        .collect()
}

fn holds(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
        let inode = target.to_str().and_then(|text| text.strip_prefix("socket:["));
        inode
            .and_then(|text| text.strip_suffix(']')?.parse().ok())
            .is_some_and(|inode| inodes.contains(&inode))
    })
}

/// Its pid as the innermost pid namespace numbers it: what a server in a container says.
fn inner_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

fn program(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn own_program() -> String {
        program(std::process::id())
    }

    #[test]
    fn table_lines_are_read_in_both_families() {
        let v4 = "   0: 0500007F:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 \
                  4711 1 0000000000000000 100 0 0 10 0";
        assert_eq!(listener(v4), Some(("127.0.0.5:6379".parse().expect("good"), 4711)));
        let v6 = "   1: 00000000000000000000000001000000:18EB 00000000000000000000000000000000:0000 \
                  0A 00000000:00000000 00:00000000 00000000 0 0 4712 1 0 100 0 0 10 0";
        assert_eq!(listener(v6), Some(("[::1]:6379".parse().expect("good"), 4712)));
        assert_eq!(listener(&v4.replace(" 0A ", " 01 ")), None, "an open connection");
    }

    #[test]
    fn a_table_is_read_as_far_as_its_listening_sockets() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = |number: usize, state: &str| {
            format!("{number:4}: 0500007F:18EB 00000000:0000 {state} 0:0 00:0 0 0 0 {number} 1\n")
        };
        let table = ["0A", "0A", "06", "0A"].into_iter().enumerate();
        let table: String = table.map(|(number, state)| line(number, state)).collect();
        let path = folder.path().join("tcp");
        fs::write(&path, format!("  sl  local_address rem_address   st\n{table}"))
            .expect("written");
        let found = listeners(path.to_str().expect("a good path"));
        let inodes: Vec<u64> = found.into_iter().map(|(_, inode)| inode).collect();
        assert_eq!(inodes, [0, 1]);
        assert_eq!(listeners("/proc/none"), []);
    }

    #[test]
    fn the_holder_of_a_listening_socket_is_found_with_and_without_a_hint() {
        for ip in ["127.0.0.1", "127.0.0.9", "0.0.0.0"] {
            let socket = TcpListener::bind((ip, 0)).expect("binds");
            let port = socket.local_addr().expect("bound").port();
            let ip = if ip == "0.0.0.0" { "127.0.0.3" } else { ip };
            let address = SocketAddr::new(ip.parse().expect("good"), port);
            let own = std::process::id();
            assert_eq!(find(address, Some(own), &[]).expect("found").pid(), own);
            assert_eq!(find(address, None, &[&own_program()]).expect("found").pid(), own);
            let other = find(address, None, &["redis-server"]).expect_err("another program");
            assert!(matches!(other, FindError::Other { pid, .. } if pid == own), "{other}");
            let wrong = find(address, Some(1), &[]).expect_err("pid 1 does not listen there");
            assert!(matches!(wrong, FindError::Other { .. }), "{wrong}");
        }
    }

    #[test]
    fn other_hosts_and_closed_ports_have_no_process() {
        let elsewhere = find("192.0.2.1:6379".parse().expect("good"), None, &[]).map(|_| ());
        assert_eq!(elsewhere, Err(FindError::Elsewhere("192.0.2.1".parse().expect("good"))));
        let socket = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("bound");
        drop(socket);
        let closed = find(address, Some(std::process::id()), &[]).map(|_| ());
        assert_eq!(closed, Err(FindError::NotFound(address)));
    }
}
