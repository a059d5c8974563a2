//! Every scenario of the folder holds, and tells the trace that stands beside it. With
//! `SIM_BLESS=1` in the environment the traces are written instead of compared.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Scenario, tell};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn stories() -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(folder())
        .expect("the folder is there")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
        .collect();
    found.sort();
    found
}

/// What is wrong with one scenario, if anything.
fn play(path: &Path, bless: bool) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let told = tell(&Scenario::read(&text)?);
    if !told.wrong.is_empty() {
        return Err(format!("{}\n{}", told.wrong.join("\n"), told.story.join("\n")));
    }
    let story = told.story.join("\n") + "\n";
    let beside = path.with_extension("trace");
    if bless {
        return fs::write(&beside, story).map_err(|error| error.to_string());
    }
    let golden = fs::read_to_string(&beside)
        .map_err(|_| "it has no trace yet: run the tests with SIM_BLESS=1".to_owned())?;
    if story == golden {
        return Ok(());
    }
    let differs = story.lines().zip(golden.lines()).find(|(now, then)| now != then);
    let (now, then) = differs.unwrap_or(("more or fewer lines", ""));
    Err(format!(
        "it holds, but is told otherwise than in {}; look, and if it is right, run the tests \
         with SIM_BLESS=1\n  was: {then}\n  is:  {now}",
        beside.display()
    ))
}

#[test]
fn every_scenario_holds_and_is_told_as_before() {
    let bless = std::env::var_os("SIM_BLESS").is_some();
    let stories = stories();
    assert!(stories.len() >= 10, "only {} scenarios were found", stories.len());
    let wrong: Vec<String> = stories
        .iter()
        .filter_map(|(name, path)| Some(format!("{name}: {}", play(path, bless).err()?)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), stories.len(), wrong.join("\n\n"));
}

#[test]
fn mistakes_are_told_with_their_lines() {
    let text =
        "# a story\nhosts 3\nhosts 77\nat 2 s: r1 explodes\nby 3 s: r1 is happy\nin 4 s: x\n";
    let error = Scenario::read(text).expect_err("four mistakes");
    for told in [
        "line 3: `77`: a number from 2 to 5",
        "line 4: an instance does not `explodes`",
        "line 5: `r1 is happy` cannot be looked at",
        "line 6: `in 4 s:` is no time",
    ] {
        assert!(error.contains(told), "{error}");
    }
    assert!(Scenario::read("hosts 3\n").expect_err("no comment").contains("say first"));
}

#[test]
fn what_does_not_hold_is_told_with_its_line() {
    let text = "# a failover that is asked to be none\nhosts 3\nat 1 s: r1 dies, for good\nby 6 s: r3 is master\n";
    let told = tell(&Scenario::read(text).expect("a good story"));
    assert!(told.wrong[0].starts_with("line 4: "), "{:?}", told.wrong);
    assert!(told.story.iter().any(|line| line.contains("is promoted")), "{:?}", told.story);
}
