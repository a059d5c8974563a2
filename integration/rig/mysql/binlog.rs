//! What a server's own binary log says: who committed which of the clients' rows, in its order.
//!
//! This is the judge above all clients: a row that a server wrote itself, and did not copy,
//! carries that server's number in the log of every server that has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::sql::{Record, Sql, Trouble};
use super::{ADMIN, Mysql};
use crate::rig::wait::soon;

/// For what may be much to read on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

/// One row of a client, as a log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// `server_id` of the server that committed it first.
    pub origin: u32,
    /// The client.
    pub writer: String,
    /// What it wrote.
    pub serial: u64,
    /// When the statement began on that server: its clock, in microseconds since 1970.
    pub at: u64,
}

/// Who wrote a row, by its client and serial, and when.
type Rows = BTreeMap<(String, u64), (u32, u64)>;

/// All rows of clients that a server's log has, in its order. A fence may end the connection; it
/// is asked again.
///
/// # Panics
/// If the server does not answer, or its log and its table differ.
#[must_use]
#[track_caller]
pub fn commits(server: &Mysql) -> Vec<Commit> {
    let mut last = None;
    // A row is in the log a moment before it is in the table.
    let read = soon(PATIENCE, || match read(server) {
        Ok((logged, rows)) => {
            let all = logged.iter().all(|(_, row)| rows.contains_key(row));
            all.then_some((logged, rows))
        }
        Err(trouble) => {
            last = Some(trouble);
            None
        }
    });
    let (logged, rows) = read.unwrap_or_else(|| {
        let why = last.map_or_else(String::new, |trouble| trouble.to_string());
        panic!("not all rows in the log of {} are in its table: {why}", server.name)
    });
    let commit = |(origin, row): (u32, (String, u64))| {
        let (by, at) = rows[&row];
        let (writer, serial) = row;
        assert_eq!(by, origin, "{}: who wrote {writer} {serial}", server.name);
        Commit { origin, writer, serial, at }
    };
    logged.into_iter().map(commit).collect()
}

type Logged = Vec<(u32, (String, u64))>;

/// The log, and then the table.
fn read(server: &Mysql) -> Result<(Logged, Rows), Trouble> {
    let mut sql = Sql::connect(server.address, ADMIN, PATIENCE)?;
    Ok((logged(&mut sql)?, rows(&mut sql)?))
}

/// So many events are asked for at once.
const EVENTS: u32 = 2000;
/// The server cannot read the event that comes next.
const TORN: u16 = 1220;

/// Origin, client and serial of each row in the log whose transaction is whole: a disk that was
/// full leaves the beginning of one at the end of a file.
fn logged(sql: &mut Sql) -> Result<Logged, Trouble> {
    let mut found = Vec::new();
    for log in sql.rows("SHOW BINARY LOGS")? {
        let mut begun = Vec::new();
        for event in events(sql, &log["Log_name"])? {
            match event["Event_type"].as_str() {
                "Gtid" => begun.clear(),
                "Xid" => found.append(&mut begun),
                "Rows_query" | "Annotate_rows" => {
                    let origin = event["Server_id"].parse().expect("a server's number");
                    begun.extend(written(&event["Info"]).map(|row| (origin, row)));
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// All events of one file. One that met the end of a full disk ends with half an event.
fn events(sql: &mut Sql, log: &str) -> Result<Vec<Record>, Trouble> {
    let (mut all, mut from, mut count) = (Vec::<Record>::new(), 4, EVENTS);
    loop {
        let statement = format!("SHOW BINLOG EVENTS IN '{log}' FROM {from} LIMIT {count}");
        match sql.rows(&statement) {
            Ok(some) => {
                let short = some.len() < usize::try_from(count).unwrap_or(usize::MAX);
                if let Some(last) = some.last() {
                    from = last["End_log_pos"].parse::<u64>().expect("a position");
                }
                all.extend(some);
                if short {
                    return Ok(all);
                }
            }
            Err(Trouble::Refused { code: TORN, .. }) if count > 1 => count = 1,
            Err(Trouble::Refused { code: TORN, .. }) => return Ok(all),
            Err(trouble) => return Err(trouble),
        }
    }
}

/// Of each row in the table: who wrote it and when.
fn rows(sql: &mut Sql) -> Result<Rows, Trouble> {
    let rows = sql.rows(
        "SELECT writer, serial, server, \
         CAST(UNIX_TIMESTAMP(at) * 1000000 AS UNSIGNED) AS at FROM app.writes",
    )?;
    let entry = |row: Record| {
        let number = |column: &str| row[column].parse::<u64>().expect("a number");
        let by = u32::try_from(number("server")).expect("a server's number");
        ((row["writer"].clone(), number("serial")), (by, number("at")))
    };
    Ok(rows.into_iter().map(entry).collect())
}

/// Writer and serial of the clients' statement; see `writer`.
fn written(info: &str) -> Option<(String, u64)> {
    let (_, values) = info.split_once("INSERT INTO app.writes VALUES ('")?;
    let (writer, rest) = values.split_once("', ")?;
    let (serial, _) = rest.split_once(',')?;
    Some((writer.to_owned(), serial.parse().ok()?))
}

/// Of all commits of these logs: who committed, in order of time, without repetitions in a row.
/// Rows that several servers have count once.
#[must_use]
pub fn reigns(logs: &[Vec<Commit>]) -> Vec<u32> {
    let all = logs.iter().flatten();
    let once: BTreeMap<_, _> = all
        .map(|commit| ((commit.at, commit.origin, &commit.writer, commit.serial), commit.origin))
        .collect();
    let mut order: Vec<u32> = once.into_values().collect();
    order.dedup();
    order
}

/// W, by the servers' own logs: no two servers committed in turns across a move, and each
/// committed what it acknowledged. `masters` is the order in which they were masters; `acks` are
/// all acknowledgements of these clients: writer, and what it was told.
///
/// # Panics
/// With the order that breaks it, or with an acknowledged row that the log of the server that
/// acknowledged it does not have as its own.
#[track_caller]
pub fn assert_one_master_at_a_time(
    servers: &[&Mysql],
    masters: &[std::net::SocketAddr],
    acks: &[(&str, &[crate::rig::Ack])],
) {
    let logs: Vec<Vec<Commit>> = servers.iter().map(|server| commits(server)).collect();
    let number = |address: &std::net::SocketAddr| {
        let found = servers.iter().find(|server| server.address == *address);
        found.expect("a master is one of the servers").number
    };
    let masters: Vec<u32> = masters.iter().map(number).collect();
    let reigns = reigns(&logs);
    let mut rest = masters.iter();
    let within = reigns.iter().all(|one| rest.any(|other| other == one));
    assert!(within, "by their logs {reigns:?} wrote; {masters:?} were masters");
    let own = |log: &Vec<Commit>, server: &Mysql| -> BTreeSet<(String, u64)> {
        let own = log.iter().filter(|commit| commit.origin == server.number);
        own.map(|commit| (commit.writer.clone(), commit.serial)).collect()
    };
    let own: BTreeMap<u32, BTreeSet<(String, u64)>> =
        logs.iter().zip(servers).map(|(log, server)| (server.number, own(log, server))).collect();
    for (writer, acks) in acks {
        for ack in *acks {
            let by = number(&ack.by);
            assert!(
                own[&by].contains(&((*writer).to_owned(), ack.serial)),
                "{} acknowledged {writer} {} and has it not as its own",
                ack.by,
                ack.serial
            );
        }
    }
}
