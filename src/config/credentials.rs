//! Secrets: from a file or a variable, as one line or as `user = …` and `password = …`, and for
//! MySQL and MariaDB `replication_user = …` and `replication_password = …` beside them.
//!
//! Nothing of a secret gets into an error: these tell the line, never what stands in it.

use super::{Credentials, ReplicationLogin};

/// What a line may begin with.
const NAMES: [&str; 4] = ["user", "password", "replication_user", "replication_password"];

/// Reads a secret's content.
///
/// # Errors
/// What is wrong, without the content.
pub(super) fn parse(content: &str) -> Result<Credentials, String> {
    let lines = || {
        content
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim_end_matches('\r')))
            .filter(|(_, line)| !line.trim().is_empty())
    };
    let Some((_, first)) = lines().next() else {
        return Err("the secret is empty; put the password on its first line".into());
    };
    if !first.trim_start().starts_with('#') && pair(first).is_none() {
        return Ok(Credentials { password: first.to_owned(), ..Credentials::default() });
    }
    let mut values: [Option<String>; NAMES.len()] = Default::default();
    for (number, line) in lines().filter(|(_, line)| !line.trim_start().starts_with('#')) {
        let Some((name, value)) = pair(line) else {
            return Err(format!(
                "line {number} of the secret is neither `user = …` nor `password = …`, nor one of \
                 these with `replication_` before it"
            ));
        };
        if values[name].replace(value).is_some() {
            return Err(format!("line {number} of the secret says `{}` again", NAMES[name]));
        }
    }
    let [user, password, replication_user, replication_password] = values;
    let password = password.ok_or("the secret has no line `password = …`")?;
    let replication = match (replication_user, replication_password) {
        (None, None) => None,
        (Some(user), Some(password)) => Some(ReplicationLogin { user, password }),
        (Some(_), None) => return Err(lonely("replication_user", "replication_password")),
        (None, Some(_)) => return Err(lonely("replication_password", "replication_user")),
    };
    Ok(Credentials { user, password, replication })
}

fn lonely(name: &str, other: &str) -> String {
    format!("the secret has a line `{name} = …` and no line `{other} = …`; write both or none")
}

/// `user = value`, by the place of its name in [`NAMES`]; the value bare, or quoted as in TOML.
fn pair(line: &str) -> Option<(usize, String)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let name = NAMES.iter().position(|known| *known == name)?;
    let quoted = value.starts_with(['"', '\'']);
    let unquoted = quoted.then(|| toml::de::DeValue::parse(value).ok()).flatten();
    let text = unquoted.as_ref().and_then(|value| value.get_ref().as_str());
    Some((name, text.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (content, user, password) in [
            ("hunter2\n", None, "hunter2"),
            ("pass = word\n", None, "pass = word"),
            ("user = app\npassword = a=b \n", Some("app"), "a=b"),
            ("# redis\n\nuser = \"app\"\npassword = \"a \\\" b\"\n", Some("app"), "a \" b"),
            ("password = 'x y'", None, "x y"),
        ] {
            let read = parse(content).expect("good");
            assert_eq!((read.user.as_deref(), read.password.as_str()), (user, password));
        }
    }

    #[test]
    fn the_replication_account_stands_beside() {
        let content = "user = sengu\npassword = a\nreplication_user = repl\n\
                       replication_password = \"b c\"\n";
        let read = parse(content).expect("good").replication.expect("both lines are there");
        assert_eq!((read.user.as_str(), read.password.as_str()), ("repl", "b c"));
        assert!(!format!("{read:?}").contains("b c"));
        for (line, missing) in [
            ("replication_user = repl", "no line `replication_password = …`"),
            ("replication_password = b", "no line `replication_user = …`"),
        ] {
            let error = parse(&format!("password = a\n{line}\n")).expect_err("refused");
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn errors_never_tell_the_secret() {
        for content in [
            "",
            "\n",
            "user = hunter2",
            "password = hunter2\nhunter2\n",
            "password = hunter2\nreplication_password = hunter2\n",
        ] {
            let error = parse(content).expect_err("refused");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
