//! `cargo run --release -p integration --bin bench-render`: from a change of the catalog to the
//! file on disk.
//!
//! A template that lists every server of every service runs as in the agent, without waiting for
//! quiet. One service moves; the time is taken from the publication of the catalog until the new
//! file stands in the old one's place. Rounds take turns with a bare loop in the same folder that
//! does the same up to the same moment: the same bytes aside, forced to disk, renamed. What the
//! disk alone takes is in both; what the bounds are about is what sengu takes beside it, so the
//! bound is held against the difference of the medians where the disk alone passes it. Beside
//! them the processor time of this process for a round, which other work on the machine does not
//! stretch. Exit code 1 if a bound does not hold. Not part of the tests.
#![expect(clippy::print_stdout, reason = "a command for people")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use sengu::config::TemplateConfig;
use sengu::template::{self, RenderContext};
use sengu::view::View;
use sengu_core::catalog::Catalog;
use sengu_core::kv::{Change, KeyValue};
use sengu_core::name::HostName;
use sengu_core::time::Time;

/// Servers of each service.
const SERVERS: usize = 3;
/// Hosts that they stand on.
const HOSTS: usize = 100;
/// Services, and the longest that a change of one may take in the median.
const SIZES: [(usize, Duration); 2] =
    [(1_000, Duration::from_millis(5)), (10_000, Duration::from_millis(30))];
/// How often the file is looked at; a wait without sleep would take the processor from what is
/// measured.
const LOOK: Duration = Duration::from_micros(100);
/// Longer than any of it takes.
const LATER: Duration = Duration::from_secs(20);

const TEMPLATE: &str = "{% for service in services() %}{% for server in service.servers -%}\n\
    {{ server.address }} {{ service.name }} {{ server.port }}\n\
    {% endfor %}{% endfor %}";

/// Measure templates.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often a service moves.
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Where the files are written; a folder of the disk in question.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// What one size came to.
struct Measured {
    renders: Vec<Duration>,
    bare: Vec<Duration>,
    /// Processor time of all rounds together, without the bare ones.
    processor: Duration,
    bytes: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!(
        "| services | file | change to file: median | 95 % | bare write: median | 95 % | \
         processor | bound | |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut good = true;
    for (services, bound) in SIZES {
        let folder = tempfile::tempdir_in(&arguments.folder).expect("a folder can be made");
        let mut found = measure(folder.path(), services, arguments.rounds);
        found.renders.sort();
        found.bare.sort();
        let (median, disk) = (quantile(&found.renders, 50), quantile(&found.bare, 50));
        let beside = median.saturating_sub(disk);
        let word = match (median <= bound, beside <= bound) {
            (true, _) => "holds",
            (false, true) => "holds beside the disk",
            (false, false) => "missed",
        };
        good &= beside <= bound;
        println!(
            "| {services} x {SERVERS} | {} KiB | {} | {} | {} | {} | {} | {} | {word} |",
            found.bytes / 1024,
            shown(median),
            shown(quantile(&found.renders, 95)),
            shown(disk),
            shown(quantile(&found.bare, 95)),
            shown(found.processor / u32::try_from(arguments.rounds.max(1)).unwrap_or(1)),
            shown(bound),
        );
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Processor time of this process so far.
fn processor() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs().try_into().unwrap_or(0))
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// The nearest rank.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

fn entry(revision: u64, key: &str, value: String) -> Arc<KeyValue> {
    Arc::new(KeyValue {
        key: key.into(),
        value: value.into_bytes().into(),
        created: revision,
        modified: revision,
        version: 1,
        lease: 0,
    })
}

fn server(service: usize, server: usize, port: usize) -> (String, String) {
    let node = format!("app{}", (service * SERVERS + server) % HOSTS);
    let id = format!("s{service}-{server}");
    let address = format!("10.{server}.{}.{}", service / 250, service % 250 + 1);
    let record = format!(
        r#"{{"format":1,"node":"{node}","id":"{id}","name":"s{service}","tags":["v1"],"address":"{address}","port":{port},"owner":"catalog"}}"#
    );
    (format!("services/{node}/{id}"), record)
}

/// A catalog with so many services.
fn filled(services: usize) -> Catalog {
    let mut entries = Vec::new();
    for host in 0..HOSTS {
        let record = format!(
            r#"{{"format":1,"name":"app{host}","address":"10.9.0.{host}","owner":"catalog"}}"#
        );
        entries.push(entry(1, &format!("nodes/app{host}"), record));
    }
    for service in 0..services {
        for number in 0..SERVERS {
            let (key, record) = server(service, number, 6379);
            entries.push(entry(1, &key, record));
        }
    }
    let mut catalog = Catalog::default().load(Time(1), 1, entries);
    // It is the file that is measured, not the store.
    catalog.valid_until = Time(u64::MAX);
    catalog
}

/// How long each change took to be on disk, in turns with bare writes of the same bytes.
fn measure(folder: &Path, services: usize, rounds: usize) -> Measured {
    let (source, file) = (folder.join("in.tera"), folder.join("out"));
    fs::write(&source, TEMPLATE).expect("the template can be written");
    let view = Arc::new(View::default());
    let context = RenderContext {
        host: HostName::new("app1").expect("a name"),
        datacenter: "dc1".to_owned(),
        domains: vec!["sengu".to_owned()],
        dns: Vec::new(),
        view: Arc::clone(&view),
        state_dir: folder.join("state"),
        lease: Duration::from_secs(6),
    };
    let config = TemplateConfig {
        source: source.display().to_string(),
        destination: file.clone(),
        command: None,
        validate: None,
        timeout: Duration::from_secs(30),
        wait_min: Duration::ZERO,
        wait_max: Duration::ZERO,
        allow_empty: false,
        min_records: 0,
        block: false,
        in_place: false,
        backup: false,
        owner: None,
        mode: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let templates = template::start(vec![config], context, stopped);
    let mut catalog = filled(services);
    view.publish(Arc::new(catalog.clone()));
    let written = |writes: u64| {
        let began = Instant::now();
        while templates.status()[0].writes < writes {
            assert!(began.elapsed() < LATER, "{:?}", templates.status());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    written(1);
    let mut found = Measured { renders: vec![], bare: vec![], processor: Duration::ZERO, bytes: 0 };
    for round in 0..rounds {
        let shared = moved(&mut catalog, services, round);
        let before = inode(&file);
        let (used, began) = (processor(), Instant::now());
        view.publish(shared);
        while inode(&file) == before {
            assert!(began.elapsed() < LATER, "{:?}", templates.status());
            std::thread::sleep(LOOK);
        }
        found.renders.push(began.elapsed());
        found.processor += processor() - used;
        // What follows the swap is not part of the next round.
        written(round as u64 + 2);
        let bytes = fs::read(&file).expect("the file can be read");
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), services * SERVERS);
        found.bytes = bytes.len();
        found.bare.push(bare(folder, &bytes));
        std::thread::sleep(Duration::from_millis(20));
    }
    found
}

/// The catalog after a server of one service moved to another port.
fn moved(catalog: &mut Catalog, services: usize, round: usize) -> Arc<Catalog> {
    let (key, record) = server((round * 7) % services, round % SERVERS, 7000 + round);
    let revision = catalog.revision + 1;
    let now = Some(entry(revision, &key, record));
    catalog.apply(Time(1), revision, &[Change { revision, key: key.as_str().into(), now }]);
    Arc::new(catalog.clone())
}

fn inode(file: &Path) -> u64 {
    fs::metadata(file).map(|found| found.ino()).unwrap_or_default()
}

/// The same bytes: aside, forced to disk, renamed; and then the folder, which is not counted on
/// either side.
fn bare(folder: &Path, bytes: &[u8]) -> Duration {
    let (aside, file) = (folder.join(".bare.new"), folder.join("bare"));
    let write = || {
        let mut new = File::create(&aside)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        fs::rename(&aside, &file)
    };
    let began = Instant::now();
    write().expect("files can be written");
    let took = began.elapsed();
    let folder = File::open(folder).and_then(|folder| folder.sync_all());
    folder.expect("the folder can be forced to disk");
    took
}
