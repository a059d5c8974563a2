//! Many services: what an agent weighs, and how soon it answers after a start.

use std::time::{Duration, Instant};

use integration::rig::{Agent, Place, dns, http, until};

/// Services, and servers of each.
const SERVICES: usize = 1000;
const SERVERS: usize = 3;
/// Clients that register at once.
const CLIENTS: usize = 8;
/// For debug builds, which are larger and slower than what is shipped.
const MEMORY_KIB: u64 = 120 * 1024;
const FIRST_ANSWER: Duration = Duration::from_secs(3);

fn register(http: std::net::SocketAddr, service: usize, server: usize) {
    let address = format!("10.{server}.{}.{}", service / 250, service % 250 + 1);
    let body = format!(
        "{{\"Node\": \"n{service}-{server}\", \"Address\": \"{address}\", \"Service\": \
         {{\"ID\": \"s{service}-{server}\", \"Service\": \"s{service}\", \"Port\": 6379}}}}"
    );
    let answer = http::put(http, "/v1/catalog/register", body.as_bytes()).expect("it answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn a_thousand_services_fit_and_are_answered_soon_after_a_start() {
    let place = Place::claim();
    let mut agent = Agent::start(&place, &Agent::head(&place));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let http = agent.http;
            scope.spawn(move || {
                for service in (client..SERVICES).step_by(CLIENTS) {
                    (0..SERVERS).for_each(|server| register(http, service, server));
                }
            });
        }
    });
    let registered = began.elapsed();
    let name = format!("s{}.service.consul", SERVICES - 1);
    until("the last one is answered", Duration::from_secs(5), || {
        (agent.addresses(&name).len() == SERVERS).then_some(())
    });
    let filled = agent.resident();

    agent.relaunch();
    let began = Instant::now();
    let first = until("the name is answered again", Duration::from_secs(10), || {
        let answer = dns::ask(agent.dns, &name, dns::A).ok()?;
        (answer.addresses.len() == SERVERS).then(|| began.elapsed())
    });
    agent.wait_answering();
    let fresh = agent.resident();
    println!(
        "{SERVICES} services of {SERVERS}: registered in {registered:?}, {} MiB when filled, \
         {} MiB after a start, first answer after {first:?}",
        filled / 1024,
        fresh / 1024
    );
    assert!(filled < MEMORY_KIB && fresh < MEMORY_KIB, "{filled} KiB, {fresh} KiB");
    assert!(first < FIRST_ANSWER, "{first:?}");
}
