//! Each fault that has a name, once on each database: what came of it, as a table for the page of
//! proofs.

use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use integration::checker::Report;
use integration::rig::cluster::{Cluster, Timing};
use integration::rig::episode::{self, Pace};
use integration::rig::member::Member;
use integration::rig::staged::Staged;

use crate::{Database, FRESH, Play};

/// What came of one, or what was wrong.
type Cell = Result<Report, String>;

/// Plays all, or that one, and prints the table.
pub(crate) fn all(databases: &[Database], seed: u64, only: Option<Staged>) -> ExitCode {
    let staged: Vec<Staged> = match only {
        Some(only) => vec![only],
        None => Staged::value_variants().to_vec(),
    };
    let play = Column { seed, staged: &staged };
    let columns: Vec<(String, Vec<Cell>)> = databases.iter().map(|it| it.play(&play)).collect();
    print(&staged, &columns);
    let wrong = columns.iter().flat_map(|(_, cells)| cells).any(Result::is_err);
    if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One database.
struct Column<'a> {
    seed: u64,
    staged: &'a [Staged],
}

impl Play for Column<'_> {
    type Told = (String, Vec<Cell>);

    /// Servers begin anew after some, and after one that was not clean.
    fn on<S: Member>(&self, kind: &S::Kind) -> Self::Told {
        let title = S::title(kind);
        let mut cells = Vec::new();
        let mut servers: Option<Cluster<S>> = None;
        for (number, one) in self.staged.iter().enumerate() {
            let began = Instant::now();
            if number.is_multiple_of(FRESH) {
                servers = None;
            }
            let make = || Cluster::on_disks(kind.clone(), Timing::USUAL);
            let cluster = servers.get_or_insert_with(make);
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let played = episode::play(cluster, self.seed, number, Some(*one), Pace::Usual);
            let cell = played.map(|(_, report)| report);
            let told = cell.as_ref().map_or_else(Clone::clone, Report::to_string);
            eprintln!("{title} {} ({:.1} s): {told}", name(*one), began.elapsed().as_secs_f64());
            if cell.is_err() {
                servers = None;
            }
            cells.push(cell);
        }
        (title, cells)
    }
}

fn name(staged: Staged) -> String {
    staged.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default()
}

/// Gap: the longest time without an acknowledged write. Old: the longest time for which an output
/// named one that did not serve any more.
fn print(staged: &[Staged], columns: &[(String, Vec<Cell>)]) {
    let titles: Vec<&str> = columns.iter().map(|(title, _)| title.as_str()).collect();
    println!("| fault | {} |", titles.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for (row, one) in staged.iter().enumerate() {
        let cells: Vec<String> = columns.iter().map(|(_, cells)| words(&cells[row])).collect();
        println!("| `{}` | {} |", name(*one), cells.join(" | "));
    }
}

fn words(cell: &Cell) -> String {
    let Ok(report) = cell else { return "NOT CLEAN".to_owned() };
    let lost = match report.gone {
        0 => String::new(),
        gone => format!(", {gone} of {} writes lost and said to be", report.writes),
    };
    let (gap, old) = (report.worst_gap / 1000, report.worst_staleness / 1000);
    format!("gap {gap} ms, old {old} ms{lost}")
}
