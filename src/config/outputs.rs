//! Templates and hooks: what was meant by `[[template]]` and `[[hook]]`.

use std::path::Path;
use std::time::Duration;

use sengu_core::name::ServiceName;
use sengu_core::record::Phase;

use super::file::{Found, Table};
use super::meant::{Setting, absolute, not_a_label};
use super::services::Services;
use super::suggest::nearest;
use super::{HookCall, HookConfig, OnError, TemplateConfig, keys};
use crate::template;

/// The shipped template that writes a managed block unless told otherwise.
const MANAGED_BLOCK: &str = "hosts.tera";

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// Reads all templates.
pub(super) fn templates(top: &Table<'_>, setting: &Setting<'_>) -> Vec<TemplateConfig> {
    let mut templates: Vec<TemplateConfig> = Vec::new();
    for table in top.list("template", &keys::TEMPLATE) {
        let Some(template) = one_template(&table, setting) else { continue };
        if templates.iter().any(|other| other.destination == template.destination) {
            let shown = template.destination.display();
            let message = format!("two templates write {shown}");
            table.note(&table.at, message, "the second", Some("keep one of them"));
        }
        templates.push(template);
    }
    templates
}

fn one_template(table: &Table<'_>, setting: &Setting<'_>) -> Option<TemplateConfig> {
    let source = table.required("source").and_then(|text| {
        let read = |text: &str| source(text, setting);
        table.convert("source", text, read)
    });
    if !table.has("destination") {
        table.missing("destination");
    }
    let destination = absolute(table, "destination");
    let command = program(table, "command", setting);
    let validate = program(table, "validate", setting);
    let timeout = timeout(table, Duration::from_secs(30));
    let wait_min = table.duration("wait_min", Duration::ZERO..=Duration::from_secs(60));
    let wait_min = wait_min.map_or(Duration::from_millis(100), |found| found.value);
    let wait_max = table.duration("wait_max", Duration::ZERO..=TEN_MINUTES);
    let longest = wait_max.as_ref().map_or(Duration::from_secs(1), |found| found.value);
    if longest < wait_min {
        let at = wait_max.map_or_else(|| table.at.clone(), |found| found.at);
        let message = "`wait_max` is shorter than `wait_min`".to_owned();
        table.note(&at, message, "here", Some("a render waits at least `wait_min`"));
    }
    let allow_empty = table.flag("allow_empty").unwrap_or(false);
    let min_records = table.whole("min_records", 0..=100_000);
    let block = table.flag("block");
    let in_place = table.flag("in_place").unwrap_or(false);
    let backup = table.flag("backup").unwrap_or(false);
    let owner = table.text("owner").and_then(|text| table.convert("owner", text, owner));
    let mode = table.text("mode").and_then(|text| table.convert("mode", text, mode));
    table.finish();
    let source = source?.value;
    Some(TemplateConfig {
        block: block.unwrap_or(source == MANAGED_BLOCK),
        source,
        destination: destination?,
        command,
        validate,
        timeout,
        wait_min,
        wait_max: longest,
        allow_empty,
        min_records: min_records.map_or(0, |found| found.value as usize),
        in_place,
        backup,
        owner: owner.map(|found| found.value),
        mode: mode.map(|found| found.value),
    })
}

/// A shipped name, or the absolute path of a file that is there.
fn source(text: &str, setting: &Setting<'_>) -> Result<String, String> {
    let shipped = template::SHIPPED.map(|(name, _)| name);
    if shipped.contains(&text) {
        return Ok(text.to_owned());
    }
    let path = setting.folder.join(text);
    if setting.machine.exists(&path) {
        return Ok(path.display().to_string());
    }
    Err(format!("there is no template {}; sengu brings {}", path.display(), shipped.join(", ")))
}

/// `user` or `user:group`; whether they are there is seen when they are needed.
fn owner(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let good = |part: &&str| {
        (1..=32).contains(&part.len()) && !part.contains(|c: char| !c.is_ascii_graphic())
    };
    if parts.len() <= 2 && parts.iter().all(good) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no account; write `user` or `user:group`"))
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("{text:?} is no file mode; write it as \"0640\""))
}

fn timeout(table: &Table<'_>, preset: Duration) -> Duration {
    let bounds = Duration::from_millis(100)..=TEN_MINUTES;
    table.duration("timeout", bounds).map_or(preset, |found| found.value)
}

/// Program and arguments; a program given with a path must be there.
fn program(table: &Table<'_>, name: &'static str, setting: &Setting<'_>) -> Option<Vec<String>> {
    let words = table.texts(name)?;
    match words.value.first().filter(|word| !word.value.is_empty()) {
        None => {
            let help = "write it as a list: program, then its arguments; no shell runs it";
            table.note(&words.at, format!("`{name}` is empty"), "here", Some(help));
        }
        Some(first) if first.value.contains('/') => {
            let path = Path::new(&first.value);
            if !path.is_absolute() {
                let message = format!("the program of `{name}` has a relative path");
                table.note(&first.at, message, "here", Some("write the whole path"));
            } else if !setting.machine.exists(path) {
                let message = format!("there is no program {}", first.value);
                table.note(&first.at, message, "here", Some("install it, or mend the path"));
            }
        }
        Some(first) if first.value.contains(char::is_whitespace) => {
            let message = format!("the program of `{name}` contains a space: no shell splits it");
            let help = "write each argument as a text of its own";
            table.note(&first.at, message, "here", Some(help));
        }
        Some(_) => {}
    }
    Some(words.value.into_iter().map(|word| word.value).collect())
}

/// Reads all hooks.
pub(super) fn hooks(
    top: &Table<'_>,
    services: &Services,
    setting: &Setting<'_>,
) -> Vec<HookConfig> {
    let tables = top.list("hook", &keys::HOOK);
    tables.iter().filter_map(|table| hook(table, services, setting)).collect()
}

fn hook(table: &Table<'_>, services: &Services, setting: &Setting<'_>) -> Option<HookConfig> {
    if !table.has("phase") {
        table.missing("phase");
    }
    let phases: Vec<_> = Phase::every().map(|phase| (phase.as_str(), phase)).collect();
    let phase = table.word("phase", &phases, |_| None);
    let services = table.texts("services").map_or_else(Vec::new, |names| {
        let known = |name: Found<String>| known_service(table, &name, services);
        names.value.into_iter().filter_map(known).collect()
    });
    let call = call(table, setting);
    let user = table.text("user").and_then(|text| table.convert("user", text, owner));
    let folder = if table.has("folder") { absolute(table, "folder") } else { Some("/".into()) };
    let timeout = timeout(table, Duration::from_secs(10));
    let words = [("continue", OnError::Continue), ("abort", OnError::Abort)];
    let on_error = table.word("on_error", &words, |_| None);
    if let (Some(phase), Some(found)) = (&phase, &on_error)
        && found.value == OnError::Abort
        && !matches!(phase.value, Phase::BeforeFailover | Phase::BeforeSwitchover)
    {
        let message = format!("a hook of {} cannot stop the move", phase.value.as_str());
        let help = "`abort` is for the `before-` phases; use `continue`";
        table.note(&found.at, message, "too late", Some(help));
    }
    table.finish();
    Some(HookConfig {
        phase: phase?.value,
        services,
        call: call?,
        user: user.map(|found| found.value),
        folder: folder?,
        timeout,
        on_error: on_error.map_or(OnError::Continue, |found| found.value),
    })
}

/// A program or a URL, and not both.
fn call(table: &Table<'_>, setting: &Setting<'_>) -> Option<HookCall> {
    let command = program(table, "command", setting);
    let url = table.text("url");
    let token = table.text("token").and_then(|text| {
        let path = setting.folder.join(&text.value);
        let there = setting.machine.exists(&path);
        let read = |_: &str| {
            if there {
                Ok(path.clone())
            } else {
                Err(format!("there is no file {}", path.display()))
            }
        };
        table.convert("token", text.clone(), read)
    });
    match (command, url) {
        (Some(command), None) => {
            if let Some(token) = token {
                let message = "`token` is for a `url`".to_owned();
                table.note(&token.at, message, "here", Some("a program reads its own secrets"));
            }
            Some(HookCall::Program(command))
        }
        (None, Some(url)) => {
            let good = |text: &str| {
                if text.starts_with("http://") || text.starts_with("https://") {
                    return Ok(text.to_owned());
                }
                Err("`url` must begin with http:// or https://".to_owned())
            };
            let url = table.convert("url", url, good)?.value;
            Some(HookCall::Http { url, token: token.map(|found| found.value) })
        }
        (Some(_), Some(url)) => {
            let message = "`command` and `url` exclude each other".to_owned();
            table.note(&url.at, message, "here", Some("write two hooks"));
            None
        }
        (None, None) => {
            if !table.has("command") && !table.has("url") {
                table.missing("command");
            }
            None
        }
    }
}

fn known_service(
    table: &Table<'_>,
    name: &Found<String>,
    services: &Services,
) -> Option<ServiceName> {
    let read = |text: &str| ServiceName::new(text).map_err(|_| not_a_label(text, "service"));
    let found = table.convert("services", name.clone(), read)?;
    if services.contains_key(&found.value) {
        return Some(found.value);
    }
    let help = nearest(&name.value, services.keys().map(ServiceName::as_str)).map_or_else(
        || "hooks run beside the new master; configure the service here first".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    let message = format!("there is no service `{}` in this file", found.value);
    table.note(&name.at, message, "not known", Some(&help));
    None
}
