//! One question over real sockets: an answer that fits, one that is cut, one that does not come.

use std::net::TcpListener;

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};

use super::*;

fn until() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn answer(question: &[u8], truncated: bool) -> Vec<u8> {
    let question = Message::from_vec(question).expect("a question");
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.authoritative = true;
    answer.metadata.truncation = truncated;
    let name = question.queries[0].name().clone();
    answer.add_query(question.queries[0].clone());
    if !truncated {
        answer.add_answer(Record::from_rdata(name, 0, RData::A(A::new(10, 0, 0, 12))));
    }
    answer.to_vec().expect("encoded")
}

#[test]
fn what_does_not_answer_the_question_is_passed_over() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let server = socket.local_addr().expect("an address");
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, peer) = socket.recv_from(&mut buffer).expect("a question");
        let mut other = answer(&buffer[..length], false);
        other[0] ^= 1;
        for packet in [b"noise".to_vec(), other, answer(&buffer[..length], false)] {
            socket.send_to(&packet, peer).expect("sent");
        }
    });
    let asked = question("master.foo.service.sengu", RecordType::A).expect("good");
    let answer = over_udp(server, &asked, until()).expect("answered");
    thread.join().expect("served");
    assert_eq!(
        lines(&answer, "master.foo.service.sengu", server),
        "master.foo.service.sengu. 0 IN A 10.0.0.12\n"
    );
    assert_eq!(data(&answer)["answers"][0]["data"], "10.0.0.12");
}

/// A free port for both.
fn same_port() -> (TcpListener, UdpSocket) {
    let pair = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        Some((listener, UdpSocket::bind(address).ok()?))
    };
    (0..50).find_map(|_| pair()).expect("some port is free for both")
}

#[test]
fn an_answer_that_was_cut_is_asked_again_over_tcp() {
    let (listener, socket) = same_port();
    let server = listener.local_addr().expect("an address");
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, peer) = socket.recv_from(&mut buffer).expect("a question");
        socket.send_to(&answer(&buffer[..length], true), peer).expect("sent");
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut prefix = [0; 2];
        stream.read_exact(&mut prefix).expect("a length");
        let mut question = vec![0; usize::from(u16::from_be_bytes(prefix))];
        stream.read_exact(&mut question).expect("a question");
        let answer = answer(&question, false);
        let length = u16::try_from(answer.len()).expect("short");
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).expect("sent");
    });
    let line = ["sengu", "dns", "foo.sengu", "--timeout", "5s", "--server", &server.to_string()]
        .map(Into::into);
    let code = crate::cli::run(line);
    thread.join().expect("asked over TCP");
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
}

#[test]
fn silence_is_bounded() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let asked = question("foo.sengu", RecordType::A).expect("good");
    let soon = Instant::now() + Duration::from_millis(20);
    let error = over_udp(socket.local_addr().expect("an address"), &asked, soon);
    assert!(error.is_err());
}
