//! What this host itself shows: programs and folders that the configuration names, room on the
//! disk, and the names as the agent and as the system's resolver answer them.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};

use super::super::client;
use super::super::dns;
use super::{Finding, Masters};
use crate::config::{Config, HookCall, TemplateConfig};
use crate::http::Gate;

/// The longest wait for an answer on this host.
const WAIT: Duration = Duration::from_secs(3);

/// Less room than this on the disk is wrong, and than four times this a warning, in bytes.
const ROOM: u64 = 64 << 20;

/// Services whose names are looked up; more are taken for answered alike.
const NAMES: usize = 20;

/// The programs that hooks and templates run, and the templates' own sources.
pub(super) fn programs(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut look = |about: String, argv: &[String]| {
        let Some(program) = argv.first() else { return };
        if let Err(why) = runnable(Path::new(program)) {
            findings.push(Finding::wrong(
                about,
                format!("{program}: {why}"),
                "install it, or write its full path into the configuration",
            ));
        }
    };
    for hook in &config.hooks {
        if let HookCall::Program(argv) = &hook.call {
            look(format!("hook {}", hook.phase.as_str()), argv);
        }
    }
    for template in &config.templates {
        for argv in [&template.command, &template.validate].into_iter().flatten() {
            look(format!("file {}", template.destination.display()), argv);
        }
    }
    findings.extend(config.templates.iter().filter_map(unplaced));
    if findings.is_empty() {
        let text = "every program of the configuration can be run";
        findings.push(Finding::good("programs", text));
    }
    findings
}

/// A destination whose folder is not there.
fn unplaced(template: &TemplateConfig) -> Option<Finding> {
    let folder = template.destination.parent()?;
    (!folder.is_dir()).then(|| {
        Finding::wrong(
            format!("file {}", template.destination.display()),
            format!("there is no folder {}", folder.display()),
            format!("`mkdir -p {}`", folder.display()),
        )
    })
}

/// Can it be run? A bare name is looked for as the agent would.
pub(super) fn runnable(program: &Path) -> Result<(), String> {
    let found = |path: &Path| {
        let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
        if !meta.is_file() {
            return Err("it is no file".to_owned());
        }
        if meta.permissions().mode() & 0o111 == 0 {
            return Err("nobody may run it".to_owned());
        }
        Ok(())
    };
    if program.components().count() > 1 {
        return found(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&path).map(|p| p.join(program)).collect();
    if places.iter().any(|place| found(place).is_ok()) {
        return Ok(());
    }
    Err("it is in no folder of PATH".to_owned())
}

/// The data folder: who may read it, and how much room there is.
pub(super) fn folders(config: &Config) -> Vec<Finding> {
    let folder = &config.data_dir;
    let about = format!("folder {}", folder.display());
    let meta = match std::fs::metadata(folder) {
        Ok(meta) => meta,
        Err(error) => {
            let mend = "the agent makes it when it starts; is `data_dir` right?";
            return vec![Finding::warning(about, error.to_string(), mend)];
        }
    };
    let mut findings = Vec::new();
    if meta.permissions().mode() & 0o022 != 0 {
        let mend = format!("`chmod go-w {}`", folder.display());
        findings.push(Finding::wrong(&about, "others than its owner may write to it", mend));
    }
    if let Ok(room) = rustix::fs::statvfs(folder) {
        let left = room.f_bavail.saturating_mul(room.f_frsize);
        let text = format!("{} MiB are left on its disk", left >> 20);
        let mend = "make room: a full disk stops every write of the store";
        findings.push(if left < ROOM {
            Finding::wrong(&about, text, mend)
        } else if left < 4 * ROOM {
            Finding::warning(&about, text, mend)
        } else {
            Finding::good(&about, text)
        });
    }
    findings
}

/// The agent's own answers, against who it says is master.
pub(super) fn agent_names(server: SocketAddr, config: &Config, masters: &Masters) -> Vec<Finding> {
    let server = client::reachable(Some(server), server.port());
    let domain = config.dns.domains.first().map_or("sengu", String::as_str);
    let about = format!("dns {server}");
    let mut findings = Vec::new();
    for (service, address) in masters.iter().take(NAMES) {
        let name = format!("master.{service}.service.{domain}");
        let mend = format!("`sengu dns {name}` asks again; the agent's log says what it met");
        let wanted: Vec<IpAddr> = address.iter().map(SocketAddr::ip).collect();
        let kind = match wanted.first() {
            Some(IpAddr::V6(_)) => RecordType::AAAA,
            _ => RecordType::A,
        };
        let answer = match dns::ask(server, &name, kind, WAIT) {
            Ok(answer) => answer,
            Err(error) => {
                findings.push(Finding::wrong(&about, format!("no answer: {error:#}"), mend));
                break;
            }
        };
        let found: Vec<IpAddr> = answer
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            })
            .collect();
        let code = answer.metadata.response_code;
        let known = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        if found != wanted || !known {
            let text = format!("{name} answers {}, not {}", listed(&found), listed(&wanted));
            findings.push(Finding::wrong(&about, text, mend));
        }
    }
    if findings.is_empty() {
        let text = format!("it answers master names under {domain} as the agent knows them");
        findings.push(Finding::good(about, text));
    }
    findings
}

fn listed(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "no address".to_owned();
    }
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Does this host's own resolver find the names? Applications ask it, not the agent.
pub(super) fn system_names(config: &Config, masters: &Masters) -> Option<Finding> {
    let domain = config.dns.domains.first()?;
    if config.dns.listen.is_empty() {
        return None;
    }
    let (service, address) = masters.iter().find_map(|(name, at)| Some((name, (*at)?)))?;
    let name = format!("master.{service}.service.{domain}");
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let asked = servers(&resolv);
    let told = if asked.is_empty() { "no server".to_owned() } else { asked.join(", ") };
    let found = resolved(&name);
    if found.contains(&address.ip()) {
        let text = format!("the system finds {name} at {} (it asks {told})", address.ip());
        return Some(Finding::good("resolver", text));
    }
    let what = if found.is_empty() {
        "does not find it".to_owned()
    } else {
        format!("finds {}", listed(&found))
    };
    Some(Finding::warning(
        "resolver",
        format!(
            "{name} is at {}, and the system {what}; /etc/resolv.conf asks {told}",
            address.ip()
        ),
        format!(
            "let the system's resolver send {domain} to the agent (templates `dnsmasq.tera` and \
             `resolved.tera`), or read a rendered hosts file; something may have written \
             /etc/resolv.conf anew"
        ),
    ))
}

/// The servers of a `resolv.conf`.
pub(super) fn servers(text: &str) -> Vec<String> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter_map(|words| match words.as_slice() {
            ["nameserver", server, ..] => Some((*server).to_owned()),
            _ => None,
        })
        .collect()
}

/// The system's answer; one that takes too long is none.
fn resolved(name: &str) -> Vec<IpAddr> {
    let (sender, answer) = mpsc::channel();
    let name = name.to_owned();
    // The resolver cannot be told to stop; its thread ends with this process.
    std::thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let found: Vec<IpAddr> = found.into_iter().flatten().map(|at| at.ip()).collect();
        let _ = sender.send(found);
    });
    answer.recv_timeout(WAIT).unwrap_or_default()
}

/// Can the certificate of the HTTP server be used, and until when?
pub(super) fn certificate(config: &Config) -> Option<Finding> {
    config.http.tls.as_ref()?;
    let about = "http certificate";
    Some(match Gate::new(&config.http, &config.tokens) {
        Ok(gate) if gate.ends_soon() => Finding::warning(
            about,
            format!("it is valid until {} only", gate.valid_until().unwrap_or_default()),
            "renew it: the agent takes new files by itself",
        ),
        Ok(gate) => {
            let until = gate.valid_until().unwrap_or_default();
            Finding::good(about, format!("it is valid until {until}"))
        }
        Err(error) => {
            let mend = "mend the files of [http.tls]: the agent does not start with these";
            Finding::wrong(about, error, mend)
        }
    })
}

/// Does the HTTP server answer? Where it speaks TLS, that it takes connections must do.
pub(super) fn http(address: SocketAddr, encrypted: bool) -> Finding {
    let address = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        _ => address,
    };
    let about = format!("http {address}");
    let answered = if encrypted {
        TcpStream::connect_timeout(&address, WAIT).map(|_| " 200 over TLS".to_owned())
    } else {
        health(address)
    };
    match answered {
        Ok(line) if line.contains(" 200 ") => Finding::good(about, "it answers"),
        Ok(line) if line.contains(" 403 ") => {
            Finding::good(about, "it answers, and asks for a token")
        }
        Ok(line) => Finding::wrong(
            about,
            format!("/health answers {}", line.trim()),
            format!("`curl http://{address}/health` says why"),
        ),
        Err(error) => {
            let mend = "does the agent run, and with this configuration?";
            Finding::wrong(about, error.to_string(), mend)
        }
    }
}

/// The first line of the answer to `/health`.
fn health(address: SocketAddr) -> std::io::Result<String> {
    let until = Instant::now() + WAIT;
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_read_timeout(Some(until.saturating_duration_since(Instant::now()).max(WAIT / 8)))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: sengu\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 512];
    let length = stream.read(&mut head)?;
    let text = String::from_utf8_lossy(&head[..length]);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
