//! A managed block in a file that people edit too.
//!
//! Between two marker lines everything is sengu's and is put back when somebody changes it; all
//! other bytes of the file stay as they are, whatever they hold. A file without markers gets the
//! block at its end, since the first line that matches wins in a hosts file and people's own
//! lines should. Markers that do not pair are a refusal: nobody can tell whose the lines are.

/// The first line of the block.
pub(crate) const BEGIN: &str = "# BEGIN sengu (managed; edits inside are overwritten)";

/// Its last line.
pub(crate) const END: &str = "# END sengu";

/// Why a block cannot be put into a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    /// Half a block.
    #[error(
        "line {0} is a `{BEGIN_WORD}` or `{END}` line without its partner: remove it, or put the \
         partner back"
    )]
    Unpaired(usize),
    /// More than one block.
    #[error("line {0} begins a second `{BEGIN_WORD}` block: remove one of the two")]
    Second(usize),
    /// The content itself would break the block.
    #[error("the template prints the marker line `{0}` itself")]
    MarkerInside(String),
}

const BEGIN_WORD: &str = "# BEGIN sengu";

/// The file's bytes with this content in its block.
pub(crate) fn put(file: &[u8], content: &str) -> Result<Vec<u8>, BlockError> {
    if let Some(line) = content.lines().find(|line| kind(line.as_bytes()) != Kind::Other) {
        return Err(BlockError::MarkerInside(line.trim_end().to_owned()));
    }
    let (before, after) = match find(file)? {
        Some((begin, end)) => (&file[..begin], &file[end..]),
        None => (file, &file[file.len()..]),
    };
    let mut new = Vec::with_capacity(file.len() + content.len() + BEGIN.len() + END.len() + 4);
    new.extend_from_slice(before);
    if before.last().is_some_and(|&byte| byte != b'\n') {
        new.push(b'\n');
    }
    for text in [BEGIN, "\n", content] {
        new.extend_from_slice(text.as_bytes());
    }
    if !content.is_empty() && !content.ends_with('\n') {
        new.push(b'\n');
    }
    new.extend_from_slice(END.as_bytes());
    new.push(b'\n');
    new.extend_from_slice(after);
    Ok(new)
}

/// From where to where the block stands, its markers included.
fn find(file: &[u8]) -> Result<Option<(usize, usize)>, BlockError> {
    let (mut begin, mut found, mut offset) = (None, None, 0);
    for (index, line) in file.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        match (kind(line), begin) {
            (Kind::Begin, None) if found.is_some() => return Err(BlockError::Second(number)),
            (Kind::Begin, None) => begin = Some((offset, number)),
            (Kind::Begin, Some((_, first))) => return Err(BlockError::Unpaired(first)),
            (Kind::End, None) => return Err(BlockError::Unpaired(number)),
            (Kind::End, Some((start, _))) => {
                found = Some((start, offset + line.len()));
                begin = None;
            }
            (Kind::Other, _) => {}
        }
        offset += line.len();
    }
    match begin {
        Some((_, number)) => Err(BlockError::Unpaired(number)),
        None => Ok(found),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Begin,
    End,
    Other,
}

/// Markers are known even if somebody changed their spacing or the words in parentheses.
fn kind(line: &[u8]) -> Kind {
    let line = line.trim_ascii();
    let marks = |word: &str| {
        line.strip_prefix(word.as_bytes())
            .is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
    };
    if marks(BEGIN_WORD) {
        Kind::Begin
    } else if marks(END) {
        Kind::End
    } else {
        Kind::Other
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(content: &str) -> String {
        format!("{BEGIN}\n{content}{END}\n")
    }

    fn text(file: &str, content: &str) -> String {
        String::from_utf8(put(file.as_bytes(), content).expect("put")).expect("text")
    }

    #[test]
    fn a_file_without_markers_gets_the_block_at_its_end() {
        assert_eq!(text("", "a\n"), block("a\n"));
        assert_eq!(
            text("127.0.0.1 localhost", "a"),
            format!("127.0.0.1 localhost\n{}", block("a\n"))
        );
    }

    #[test]
    fn the_rest_is_kept_and_the_block_repaired() {
        let file = format!("one\n{}two\r\n\n three", block("old\n"));
        assert_eq!(text(&file, "new\n"), format!("one\n{}two\r\n\n three", block("new\n")));
        let edited = file.replace("old\n", "mine\nall mine\n").replace("(managed; ", "(ours; ");
        assert_eq!(text(&edited, "new\n"), format!("one\n{}two\r\n\n three", block("new\n")));
        let latin = [b"# caf\xe9\n".as_slice(), block("x\n").as_bytes()].concat();
        let new = put(&latin, "y\n").expect("put");
        assert_eq!(new, [b"# caf\xe9\n".as_slice(), block("y\n").as_bytes()].concat());
    }

    #[test]
    fn markers_that_do_not_pair_are_refused() {
        let put = |file: &str| put(file.as_bytes(), "x\n").expect_err("refused");
        assert_eq!(put("a\n# BEGIN sengu\nb\n"), BlockError::Unpaired(2));
        assert_eq!(put("a\n# END sengu\nb\n"), BlockError::Unpaired(2));
        assert_eq!(put(&format!("{BEGIN}\n{BEGIN}\n{END}\n")), BlockError::Unpaired(1));
        assert_eq!(put(&format!("{}{}", block("a\n"), block("b\n"))), BlockError::Second(4));
        assert!(matches!(super::put(b"", "# END sengu\n"), Err(BlockError::MarkerInside(_))));
    }

    #[test]
    fn other_comments_are_no_markers() {
        let file = "# BEGIN senguru\n# END sengu2\n#BEGIN sengu\n";
        assert_eq!(text(file, "x\n"), format!("{file}{}", block("x\n")));
    }

    proptest! {
        #[test]
        fn putting_twice_is_putting_once(
            lines in proptest::collection::vec("[ -~]{0,12}", 0..8),
            at in 0..9_usize, content in "[a-z\n]{0,20}",
        ) {
            let mut file: Vec<String> = lines.clone();
            file.insert(at.min(lines.len()), block("old\n").trim_end().to_owned());
            let file = file.join("\n");
            let once = put(file.as_bytes(), &content).expect("put");
            prop_assert_eq!(&put(&once, &content).expect("put"), &once);
            let back = put(&once, "old\n").expect("put");
            let back = String::from_utf8(back).expect("text");
            prop_assert_eq!(back.trim_end_matches('\n'), file.trim_end_matches('\n'));
        }
    }
}
