//! `sengu services`: what the catalog lists, managed and registered, and how it stands.

use clap::Args;
use comfy_table::{ContentArrangement, Table};
use sengu_core::consul::overview::Overview;
use serde_json::Value;

use super::client::segment;
use super::print::{self, Look};
use super::{Exit, Global};
use crate::config::count;

/// List the services of the catalog and how they stand, or the entries of one
///
/// Those that sengu manages and those that clients registered. With a name: each of its entries,
/// where it is, its tags, and the checks that do not pass with what they said.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// One service
    name: Option<String>,
    /// Only entries with this tag; may stand several times
    #[arg(long, requires = "name", value_name = "TAG")]
    tag: Vec<String>,
    /// Only entries all whose checks pass
    #[arg(long, requires = "name")]
    passing: bool,
    /// Only entries that satisfy an expression, as `Service.Meta.env == prod`
    #[arg(long, requires = "name", value_name = "EXPRESSION")]
    filter: Option<String>,
    /// The HTTP server; else the first `http.listen` of the configuration
    #[arg(long, env = "SENGU_HTTP", hide_env_values = true, value_name = "URL")]
    http: Option<String>,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let client = global.http(options.http.as_ref())?;
    let Some(name) = &options.name else {
        let rows: Vec<Overview> = client.get("/v1/sengu/services")?;
        if global.json {
            print::json(&rows);
        } else {
            print::text(&list(&rows, &Look::of_stdout()));
        }
        return Ok(Exit::Done);
    };
    let tags = options.tag.iter().map(|tag| format!("&tag={}", segment(tag)));
    let passing = options.passing.then(|| "&passing".to_owned());
    let filter = options.filter.iter().map(|text| format!("&filter={}", segment(text)));
    let query: String = tags.chain(passing).chain(filter).collect();
    let path = format!("/v1/health/service/{}?{}", segment(name), query.trim_start_matches('&'));
    let entries: Vec<Value> = client.get(&path)?;
    if global.json {
        print::json(&entries);
    } else {
        print::text(&one(name, &entries, &Look::of_stdout()));
    }
    Ok(if entries.is_empty() { Exit::Failed } else { Exit::Done })
}

fn table(header: &[&str], look: &Look) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if let Some(width) = look.width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(header.iter().copied());
    table
}

fn laid_out(table: &Table) -> String {
    let lines = table.lines();
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// All services.
fn list(rows: &[Overview], look: &Look) -> String {
    if rows.is_empty() {
        return "no service yet".to_owned();
    }
    let mut table = table(&["service", "kind", "entries", "tags", "at"], look);
    for row in rows {
        let kind = if row.managed { "managed" } else { "registered" };
        let tags: Vec<&str> = row.tags.iter().map(String::as_str).collect();
        table.add_row([
            row.service.clone(),
            kind.to_owned(),
            standing(row),
            tags.join(", "),
            shortened(&row.addresses.iter().map(String::as_str).collect::<Vec<_>>()),
        ]);
    }
    let bad = rows.iter().filter(|row| row.passing + row.warning == 0).count();
    let all = count(rows.len(), "service");
    let head = match bad {
        0 => look.calm(&format!("{all}, each with an entry that answers")),
        bad => look.alarm(&format!("{bad} of {all} without an entry that answers")),
    };
    format!("{head}\n\n{}", laid_out(&table))
}

/// How many entries, and how many of them do not pass.
fn standing(row: &Overview) -> String {
    let all = row.passing + row.warning + row.critical;
    let bad = [(row.warning, "warning"), (row.critical, "critical")];
    let bad: Vec<String> =
        bad.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if bad.is_empty() { all.to_string() } else { format!("{all} ({})", bad.join(", ")) }
}

/// The first few, and how many more.
fn shortened(all: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown = all[..all.len().min(SHOWN)].join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The entries of one service.
fn one(name: &str, entries: &[Value], look: &Look) -> String {
    if entries.is_empty() {
        return format!("{name}: no entry; `sengu services` lists the names that there are");
    }
    let text = |value: &Value, at: &str| {
        value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut table = table(&["entry", "node", "address", "tags", "checks"], look);
    for entry in entries {
        let own = text(entry, "/Service/Address");
        let address = if own.is_empty() { text(entry, "/Node/Address") } else { own };
        let port = entry.pointer("/Service/Port").and_then(Value::as_u64).unwrap_or(0);
        let tags = entry.pointer("/Service/Tags").and_then(Value::as_array);
        let tags: Vec<&str> = tags.into_iter().flatten().filter_map(Value::as_str).collect();
        let checks = entry.pointer("/Checks").and_then(Value::as_array);
        let bad = checks.into_iter().flatten().filter(|check| text(check, "/Status") != "passing");
        let bad: Vec<String> = bad
            .map(|check| {
                let output = text(check, "/Output");
                let said = output.lines().next().unwrap_or_default().trim().to_owned();
                let said = if said.is_empty() { said } else { format!(": {said}") };
                format!("{} {}{said}", text(check, "/CheckID"), text(check, "/Status"))
            })
            .collect();
        let bad = if bad.is_empty() { "passing".to_owned() } else { bad.join("; ") };
        table.add_row([
            text(entry, "/Service/ID"),
            text(entry, "/Node/Node"),
            format!("{address}:{port}"),
            tags.join(", "),
            bad,
        ]);
    }
    format!("{}\n\n{}", look.strong(&format!("{name}: {} found", entries.len())), laid_out(&table))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::print::tests::look;

    fn row(service: &str, managed: bool, standing: [usize; 3]) -> Overview {
        Overview {
            service: service.to_owned(),
            managed,
            tags: ["v1".to_owned()].into(),
            passing: standing[0],
            warning: standing[1],
            critical: standing[2],
            addresses: (0..standing[0] + standing[1]).map(|n| format!("10.0.0.{n}:80")).collect(),
        }
    }

    #[test]
    fn the_list_says_first_whether_a_name_has_no_answer() {
        let rows = [row("foo-redis", true, [1, 0, 0]), row("web", false, [3, 1, 1])];
        let told = list(&rows, &look(None));
        assert_eq!(
            told,
            "2 services, each with an entry that answers\n\n\
             service    kind        entries                    tags  at\n\
             foo-redis  managed     1                          v1    10.0.0.0:80\n\
             web        registered  5 (1 warning, 1 critical)  v1    \
             10.0.0.0:80, 10.0.0.1:80, 10.0.0.2:80 and 1 more"
        );
        let told = list(&[row("web", false, [0, 0, 2])], &look(None));
        assert!(told.starts_with("1 of 1 service without an entry that answers\n"), "{told}");
        assert_eq!(list(&[], &look(None)), "no service yet");
    }

    #[test]
    fn an_entry_tells_which_checks_do_not_pass() {
        let entry = json!({
            "Node": {"Node": "web1", "Address": "10.0.0.1"},
            "Service": {"ID": "w", "Tags": ["v1", "blue"], "Address": "", "Port": 80},
            "Checks": [{"CheckID": "serfHealth", "Status": "passing", "Output": ""},
                       {"CheckID": "http", "Status": "critical", "Output": "HTTP 500\nmore"}],
        });
        assert_eq!(
            one("web", &[entry], &look(None)),
            "web: 1 found\n\n\
             entry  node  address      tags      checks\n\
             w      web1  10.0.0.1:80  v1, blue  http critical: HTTP 500"
        );
        assert!(one("web", &[], &look(None)).starts_with("web: no entry"));
    }
}
