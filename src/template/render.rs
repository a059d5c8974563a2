//! One template, one scene, one text.
//!
//! The engine reads no file, no environment and no network; a template is what this host's
//! operator wrote, and trusted as far as that. It is bounded all the same: its size, what it
//! prints, and its time. A render that passes its deadline is abandoned on its own thread, which
//! ends at the next line that it prints or question that it asks; nobody waits for it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use sengu_core::time::Wall;
use serde::{Deserialize, Serialize};
use tera::value::Key;
use tera::{Context, ErrorKind, Kwargs, State, Tera, TeraResult, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::RenderContext;
use super::error::TemplateError;
use super::order::Order;
use super::scene::{Choice, Said, Scene};
use super::swap::modified;

/// The largest template, in bytes.
pub const TEMPLATE_LIMIT: u64 = 1 << 20;

/// The largest output, in bytes.
pub const OUTPUT_LIMIT: usize = 16 << 20;

/// The longest render.
pub const RENDER_DEADLINE: Duration = Duration::from_secs(5);

/// The engine recurses with the template's depth.
const STACK: usize = 16 << 20;

/// Templates that come with sengu, by the name to give as `source`.
pub const SHIPPED: [(&str, &str); 6] = [
    ("hosts.tera", include_str!("../../templates/hosts.tera")),
    ("dnsmasq.tera", include_str!("../../templates/dnsmasq.tera")),
    ("haproxy.tera", include_str!("../../templates/haproxy.tera")),
    ("resolved.tera", include_str!("../../templates/resolved.tera")),
    ("prometheus-targets.tera", include_str!("../../templates/prometheus-targets.tera")),
    ("redis-app.env.tera", include_str!("../../templates/redis-app.env.tera")),
];

/// A template's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its path, or shipped name.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
    /// When somebody last wrote to it, if it is a file.
    pub(crate) modified: Option<Wall>,
}

impl Source {
    /// A shipped template's text, or a file's.
    pub(crate) fn read(source: &str) -> Result<Self, TemplateError> {
        let name = source.to_owned();
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == source) {
            return Ok(Self { name, text: (*text).to_owned(), modified: None });
        }
        let path = Path::new(source);
        match read_file(path) {
            Ok(text) => Ok(Self { name, text, modified: modified(path) }),
            Err(reason) => Err(TemplateError::Source { path: name, reason }),
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(TEMPLATE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > TEMPLATE_LIMIT {
        return Err(format!("it is larger than {} KiB", TEMPLATE_LIMIT >> 10));
    }
    String::from_utf8(bytes).map_err(|error| format!("it is not UTF-8: {error}"))
}

/// A text, and what it was made of.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    /// The text.
    pub(crate) text: String,
    /// What the template was told on the way.
    pub(crate) said: Said,
}

/// Renders on a thread of its own and hands the result to `answer`. Setting `stop` ends it soon.
fn start(
    source: Source,
    scene: Scene,
    context: &RenderContext,
    stop: Arc<AtomicBool>,
    answer: impl FnOnce(Result<Rendered, TemplateError>) + Send + 'static,
) -> io::Result<()> {
    let values = values(context);
    let work = move || answer(render(source, scene, &values, stop));
    // Not one of the runtime's threads: an abandoned one would keep the agent from exiting.
    thread::Builder::new().name("template".to_owned()).stack_size(STACK).spawn(work).map(drop)
}

/// Renders, and waits for it until the deadline.
pub(crate) async fn within(
    deadline: Duration,
    source: Source,
    scene: Scene,
    context: &RenderContext,
) -> Result<Rendered, TemplateError> {
    let (sender, answer) = oneshot::channel();
    let file = source.name.clone();
    let stop = Stop::default();
    start(source, scene, context, Arc::clone(&stop.0), move |result| {
        // Nobody waits for an abandoned one.
        let _ = sender.send(result);
    })
    .map_err(|error| no_thread(&file, &error))?;
    match timeout(deadline, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(fell(file)),
        Err(_) => Err(TemplateError::Slow { file, deadline, given_up: false }),
    }
}

/// The same where there is no runtime: blocks the thread, at most for the deadline.
pub(crate) fn within_blocking(
    deadline: Duration,
    source: Source,
    scene: Scene,
    context: &RenderContext,
) -> Result<Rendered, TemplateError> {
    let (sender, answer) = mpsc::sync_channel(1);
    let file = source.name.clone();
    let stop = Stop::default();
    start(source, scene, context, Arc::clone(&stop.0), move |result| {
        let _ = sender.send(result);
    })
    .map_err(|error| no_thread(&file, &error))?;
    match answer.recv_timeout(deadline) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(fell(file)),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(TemplateError::Slow { file, deadline, given_up: false })
        }
    }
}

fn no_thread(file: &str, error: &io::Error) -> TemplateError {
    let message = format!("cannot start a thread to render it: {error}");
    TemplateError::Engine { file: file.to_owned(), message }
}

fn fell(file: String) -> TemplateError {
    TemplateError::Engine { file, message: "the template engine failed on it".to_owned() }
}

/// Stops a render when nobody waits for it any more.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The values that stand beside the functions.
fn values(context: &RenderContext) -> Context {
    let mut values = Context::new();
    values.insert("host", context.host.as_str());
    values.insert("datacenter", &context.datacenter);
    values.insert("domain", context.domains.first().map_or("sengu", String::as_str));
    values.insert("domains", &context.domains);
    let dns: Vec<_> = context.dns.iter().map(Listener::of).collect();
    values.insert("dns", &dns);
    values
}

fn render(
    source: Source,
    scene: Scene,
    values: &Context,
    stop: Arc<AtomicBool>,
) -> Result<Rendered, TemplateError> {
    let file = source.name.clone();
    let scene = Arc::new(scene);
    let mut tera = Tera::default();
    tera.autoescape_on(Vec::<&str>::new());
    add_functions(&mut tera, &scene, &stop);
    add_filters(&mut tera, &scene);
    tera.add_raw_template(&file, &source.text).map_err(|error| placed(&file, &error))?;
    let mut output = Output { bytes: Vec::new(), stop, full: false };
    let outcome = tera.render_to(&file, values, &mut output);
    if output.full {
        return Err(TemplateError::TooMuch { file, limit: OUTPUT_LIMIT >> 20 });
    }
    outcome.map_err(|error| placed(&file, &error))?;
    let text = String::from_utf8(output.bytes)
        .map_err(|_| TemplateError::Engine { file, message: "it printed no UTF-8".to_owned() })?;
    Ok(Rendered { text, said: scene.said() })
}

/// The engine's error with its place.
fn placed(file: &str, error: &tera::Error) -> TemplateError {
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            TemplateError::Template {
                file: file.to_owned(),
                line: report.span().start_line,
                column: report.span().start_col + 1,
                message: report.message().to_owned(),
            }
        }
        other => TemplateError::Engine { file: file.to_owned(), message: other.to_string() },
    }
}

/// Where this agent answers, for programs that are to ask it.
#[derive(Serialize)]
struct Listener {
    address: IpAddr,
    port: u16,
}

impl Listener {
    fn of(at: &SocketAddr) -> Self {
        Self { address: at.ip(), port: at.port() }
    }
}

/// Arguments of `hosts()` and `services()`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    order: Option<String>,
}

/// Arguments of `service()`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfService {
    name: String,
    tag: Option<String>,
    status: Option<String>,
    near: Option<String>,
    order: Option<String>,
}

/// Arguments of `key()`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfKey {
    name: String,
}

/// Arguments of `key_or()`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfKeyOr {
    name: String,
    default: String,
}

/// Arguments of `keys()`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfKeys {
    prefix: String,
}

/// Arguments of `master()`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfMaster {
    service: String,
}

/// Arguments of `replicas()`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfReplicas {
    service: String,
    order: Option<String>,
}

fn add_functions(tera: &mut Tera, scene: &Arc<Scene>, stop: &Arc<AtomicBool>) {
    type Answer = fn(&Scene, &Kwargs) -> TeraResult<Value>;
    let functions: [(&'static str, Answer); 8] = [
        ("hosts", |scene, given| {
            // A host's own name stands in one line only: nothing to spread.
            let given: Listed = given.deserialize()?;
            value(&scene.hosts(order(given.order, Order::Sorted)?))
        }),
        ("services", |scene, given| {
            let given: Listed = given.deserialize()?;
            services(scene, order(given.order, Order::PerHost)?)
        }),
        ("service", |scene, given| {
            let given: OfService = given.deserialize()?;
            let standing = given.status.map(|text| text.parse()).transpose();
            let choice = Choice {
                tag: given.tag,
                standing: standing.map_err(tera::Error::message)?.unwrap_or_default(),
                near: given.near,
                order: order(given.order, Order::PerHost)?,
            };
            value(&scene.service(&given.name, &choice))
        }),
        ("master", |scene, given| {
            let given: OfMaster = given.deserialize()?;
            value(&scene.master(&given.service))
        }),
        ("replicas", |scene, given| {
            let given: OfReplicas = given.deserialize()?;
            value(&scene.replicas(&given.service, order(given.order, Order::PerHost)?))
        }),
        ("key", |scene, given| {
            let OfKey { name } = given.deserialize()?;
            match scene.key(&name).map_err(tera::Error::message)? {
                Some(text) => Ok(text.into()),
                None => Err(tera::Error::message(format!(
                    "there is no key {name:?}; `key_or` gives a value in its place"
                ))),
            }
        }),
        ("key_or", |scene, given| {
            let OfKeyOr { name, default } = given.deserialize()?;
            let found = scene.key(&name).map_err(tera::Error::message)?;
            Ok(found.unwrap_or(default).into())
        }),
        ("keys", |scene, given| {
            let OfKeys { prefix } = given.deserialize()?;
            value(&scene.keys(&prefix))
        }),
    ];
    for (name, answer) in functions {
        let (scene, stop) = (Arc::clone(scene), Arc::clone(stop));
        tera.register_function(name, move |given: Kwargs, _: &State<'_>| {
            if stop.load(Ordering::Relaxed) {
                return Err(tera::Error::message("stopped"));
            }
            answer(&scene, &given)
        });
    }
}

/// All services, managed ones first. Of registered ones, those that did not change since they
/// were asked for last are taken from then: there may be thousands, and one changes.
fn services(scene: &Scene, order: Order) -> TeraResult<Value> {
    let managed = scene.managed_services(order);
    let mut all = managed.iter().map(value).collect::<TeraResult<Vec<Value>>>()?;
    let registered = scene.registered_services();
    let mut kept = scene.kept().lock().expect("nothing panics while it holds this");
    // Both come by name, so that one walk through both finds what did not change.
    let mut last = std::mem::take(&mut *kept).into_iter().peekable();
    all.reserve(registered.len());
    kept.reserve(registered.len());
    for (name, mark) in registered {
        while last.next_if(|(old, _)| *old < name).is_some() {}
        if let Some((_, same)) = last.next_if(|(old, same)| *old == name && same.is(mark, order)) {
            scene.told_again(same.servers);
            all.push(same.value.clone());
            kept.push((name, same));
            continue;
        }
        let (service, whole) = scene.registered_service(&name, order);
        let value = value(&service)?;
        all.push(value.clone());
        if whole {
            let servers = service.servers.len();
            kept.push((name, KeptService { mark, order, servers, value }));
        }
    }
    Ok(all.into())
}

/// A service as it was told last.
#[derive(Debug, Clone)]
pub(crate) struct KeptService {
    mark: u64,
    order: Order,
    servers: usize,
    value: Value,
}

impl KeptService {
    fn is(&self, mark: u64, order: Order) -> bool {
        (self.mark, self.order) == (mark, order)
    }
}

/// The registered services that one template was told last, in the order of their names.
pub(crate) type KeptServices = Arc<Mutex<Vec<(Arc<str>, KeptService)>>>;

/// Filters beside the engine's own.
fn add_filters(tera: &mut Tera, scene: &Scene) {
    let host = scene.host().to_owned();
    tera.register_filter("per_host", move |list: &Value, given: Kwargs, _: &State<'_>| {
        let Nothing {} = given.deserialize()?;
        let Some(list) = list.as_array() else {
            return Err(tera::Error::message("`per_host` orders a list"));
        };
        let mut list = list.to_vec();
        Order::PerHost.sort(&host, &mut list, |one| {
            // A server by where it listens, anything else by its whole text.
            let endpoint = one.as_map().and_then(|map| map.get(&Key::Str("endpoint")));
            (String::new(), endpoint.unwrap_or(one).to_string())
        });
        Ok::<Value, tera::Error>(list.into())
    });
    tera.register_filter("parse_json", |text: &str, given: Kwargs, _: &State<'_>| {
        let Nothing {} = given.deserialize()?;
        let parsed: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| tera::Error::message(format!("it is no JSON: {error}")))?;
        value(&parsed)
    });
}

/// Arguments of what takes none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn order(given: Option<String>, default: Order) -> TeraResult<Order> {
    given.map_or(Ok(default), |text| text.parse::<Order>().map_err(tera::Error::message))
}

fn value<T: Serialize>(list: &T) -> TeraResult<Value> {
    Value::try_from_serializable(list)
}

/// Takes what is printed, up to a bound.
struct Output {
    bytes: Vec<u8>,
    stop: Arc<AtomicBool>,
    full: bool,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.full |= self.bytes.len() + bytes.len() > OUTPUT_LIMIT;
        if self.full || self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
