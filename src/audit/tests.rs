//! Real files in a folder of their own.

use super::*;

fn deed(via: Via, what: &str) -> Deed {
    Deed {
        at: Wall(1),
        via,
        who: Who { uid: Some(0), user: Some("root".into()), ..Who::default() },
        what: what.to_owned(),
        good: true,
        outcome: "done".to_owned(),
        ms: 3,
    }
}

fn whats(data_dir: &Path) -> Vec<String> {
    read(data_dir).expect("readable").into_iter().map(|line| line.what).collect()
}

#[test]
fn lines_are_kept_over_restarts_and_numbers_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..3 {
        let audit = Audit::open(folder.path(), Bounds::default()).expect("it opens");
        audit.note(deed(Via::Socket, &format!("round {round}")));
        audit.end();
    }
    assert_eq!(whats(folder.path()), ["round 0", "round 1", "round 2"]);
    let numbers: Vec<u64> =
        read(folder.path()).expect("readable").iter().map(|line| line.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn the_oldest_go_and_tools_do_not_push_people_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let audit = Audit::open(folder.path(), Bounds { lines: 10, bytes: 1 << 20 }).expect("opens");
    audit.note(deed(Via::Socket, "a person's"));
    for number in 0..100 {
        audit.note(deed(Via::Http, &format!("tool {number}")));
    }
    audit.end();
    let kept = whats(folder.path());
    assert!(kept.contains(&"a person's".to_owned()));
    assert!(kept.contains(&"tool 99".to_owned()));
    assert!(!kept.contains(&"tool 0".to_owned()));
    assert!((11..=21).contains(&kept.len()), "{} lines", kept.len());
    let bytes = Bounds { lines: 1000, bytes: 2000 };
    let audit = Audit::open(folder.path(), bytes).expect("opens");
    for number in 0..100 {
        audit.note(deed(Via::Http, &format!("{number} {}", "x".repeat(500))));
    }
    audit.end();
    let sizes: u64 = std::fs::read_dir(super::folder(folder.path()))
        .expect("a folder")
        .map(|file| file.and_then(|file| file.metadata()).expect("a file").len())
        .sum();
    assert!(sizes < 10_000, "{sizes} bytes");
}

#[test]
fn a_line_that_a_crash_cut_is_skipped_and_spoils_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Audit::open(folder.path(), Bounds::default()).expect("it opens");
    let audit = open();
    audit.note(deed(Via::Socket, "whole"));
    audit.end();
    let file = super::folder(folder.path()).join(FILES[0]);
    let mut text = std::fs::read_to_string(&file).expect("readable");
    text += "{\"number\":2,\"at\":5,\"vi";
    std::fs::write(&file, text).expect("written");
    let audit = open();
    audit.note(deed(Via::Socket, "after"));
    audit.end();
    assert_eq!(whats(folder.path()), ["whole", "after"]);
}

#[test]
fn a_tail_gives_each_line_once_over_a_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let audit = Audit::open(folder.path(), Bounds { lines: 3, bytes: 1 << 20 }).expect("opens");
    audit.note(deed(Via::Socket, "before"));
    audit.end();
    let file = super::folder(folder.path()).join(FILES[0]);
    let mut tail = Tail::of(&file).expect("it is there");
    let mut seen = Vec::new();
    for number in 0..7 {
        let audit = Audit::open(folder.path(), Bounds { lines: 3, bytes: 1 << 20 }).expect("opens");
        audit.note(deed(Via::Socket, &number.to_string()));
        audit.end();
        seen.extend(tail.news().expect("readable").into_iter().map(|line| line.what));
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5", "6"]);
    assert!(tail.news().expect("readable").is_empty());
}

#[test]
fn who_is_told_in_words() {
    let own = Who::own();
    assert_eq!(own.uid, Some(rustix::process::getuid().as_raw()));
    assert!(own.program.is_some());
    let at = Who { address: Some("10.0.0.1:80".parse().expect("good")), ..Who::default() };
    assert_eq!(at.words(), "10.0.0.1:80");
    let root = Who { uid: Some(0), user: Some("root".into()), pid: Some(7), ..Who::default() };
    assert_eq!(root.words(), "root (pid 7)");
    assert_eq!(Who { uid: Some(9), ..Who::default() }.words(), "uid 9");
}
