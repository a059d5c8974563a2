//! Secrets: from a file or a variable, as one line or as `user = …` and `password = …`.
//!
//! Nothing of a secret gets into an error: these tell the line, never what stands in it.

use super::Credentials;

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
        return Ok(Credentials { user: None, password: first.to_owned() });
    }
    let (mut user, mut password) = (None, None);
    for (number, line) in lines().filter(|(_, line)| !line.trim_start().starts_with('#')) {
        let Some((name, value)) = pair(line) else {
            return Err(format!(
                "line {number} of the secret is neither `user = …` nor `password = …`"
            ));
        };
        let slot = if name == "user" { &mut user } else { &mut password };
        if slot.replace(value).is_some() {
            return Err(format!("line {number} of the secret says `{name}` again"));
        }
    }
    let password = password.ok_or("the secret has no line `password = …`")?;
    Ok(Credentials { user, password })
}

/// `user = value` or `password = value`; the value bare, or quoted as in TOML.
fn pair(line: &str) -> Option<(&str, String)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    if !matches!(name, "user" | "password") {
        return None;
    }
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
    fn errors_never_tell_the_secret() {
        for content in ["", "\n", "user = hunter2", "password = hunter2\nhunter2\n"] {
            let error = parse(content).expect_err("refused");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
