//! `deny.toml` → [`Policy`]. Understands the part of TOML that the file uses: tables, strings, arrays, inline tables, comments;
//! anything else is an error with its line, so that the file cannot say something that is silently not read.

use anyhow::{Context, Result, bail, ensure};

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) targets: Vec<String>,
    pub(super) licences: Vec<String>,
    pub(super) banned: Vec<Entry>,
    pub(super) skipped: Vec<Entry>,
}

/// `{ crate = "name@version", reason = "…" }`; the version may be shortened (`0.2`).
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    version: Option<String>,
    pub(super) reason: String,
}

impl Entry {
    /// Whether it means that version of that crate.
    pub(super) fn covers(&self, name: &str, version: &str) -> bool {
        self.name == name
            && self
                .version
                .as_ref()
                .is_none_or(|wanted| version == wanted || version.starts_with(&format!("{wanted}.")))
    }

    /// As the file has it.
    pub(super) fn spelled(&self) -> String {
        self.version.as_ref().map_or_else(|| self.name.clone(), |version| format!("{}@{version}", self.name))
    }

    fn from(value: &Value) -> Result<Entry> {
        let Value::Table(fields) = value else { bail!("expected {{ crate = \"…\", reason = \"…\" }}") };
        let field = |key: &str| fields.iter().find(|(name, _)| name == key).map(|(_, text)| text.clone());
        let spelled = field("crate").context("an entry without `crate`")?;
        let (name, version) = match spelled.split_once('@') {
            Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
            None => (spelled, None),
        };
        Ok(Entry { name, version, reason: field("reason").unwrap_or_default() })
    }
}

#[derive(Debug)]
enum Value {
    Text(String),
    Table(Vec<(String, String)>),
    List(Vec<Value>),
}

impl Policy {
    /// Reads the text of the file.
    pub(super) fn parse(text: &str) -> Result<Policy> {
        let mut policy = Policy::default();
        let mut table = String::new();
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let mut statement = without_comment(line).trim().to_owned();
            if let Some(name) = statement.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                table = name.trim().to_owned();
                continue;
            }
            if statement.is_empty() {
                continue;
            }
            while is_open(&statement) {
                let (_, more) = lines.next().with_context(|| format!("line {}: a list is not closed", index + 1))?;
                statement.push(' ');
                statement.push_str(without_comment(more).trim());
            }
            policy.assign(&table, &statement).with_context(|| format!("line {}", index + 1))?;
        }
        Ok(policy)
    }

    fn assign(&mut self, table: &str, statement: &str) -> Result<()> {
        let (key, value) = statement.split_once('=').context("expected `key = value`")?;
        let mut rest = value.trim();
        let value = read_value(&mut rest)?;
        ensure!(rest.trim().is_empty(), "something follows the value: {rest}");
        match (table, key.trim(), value) {
            ("graph", "targets", value) => self.targets = texts(value)?,
            ("licenses", "allow", value) => self.licences = texts(value)?,
            ("bans", "multiple-versions", Value::Text(text)) => {
                ensure!(text == "deny", "duplicates are denied here, and excepted by `skip`");
            }
            ("bans", "deny", Value::List(entries)) => self.banned = read_entries(&entries)?,
            ("bans", "skip", Value::List(entries)) => self.skipped = read_entries(&entries)?,
            (table, key, _) => bail!("{table}.{key} is not read here: teach `cargo xtask deny` or take it away"),
        }
        Ok(())
    }
}

fn read_entries(values: &[Value]) -> Result<Vec<Entry>> {
    values.iter().map(Entry::from).collect()
}

fn texts(value: Value) -> Result<Vec<String>> {
    let Value::List(values) = value else { bail!("expected a list") };
    let texts = values.into_iter().map(|value| match value {
        Value::Text(text) => Ok(text),
        other => bail!("expected a string, found {other:?}"),
    });
    texts.collect()
}

/// Whether a list or inline table goes on in the next line.
fn is_open(statement: &str) -> bool {
    let outside = statement.split('"').step_by(2);
    let (mut open, mut closed) = (0, 0);
    for part in outside {
        open += part.matches(['[', '{']).count();
        closed += part.matches([']', '}']).count();
    }
    open > closed
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (index, letter) in line.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..index],
            _ => {}
        }
    }
    line
}

fn read_value(rest: &mut &str) -> Result<Value> {
    if skip(rest, "[") {
        let mut values = Vec::new();
        while !skip(rest, "]") {
            // A list of lists is nothing that the file has.
            values.push(if rest.starts_with('{') { read_table(rest)? } else { Value::Text(read_text(rest)?) });
            ensure!(skip(rest, ",") || rest.starts_with(']'), "expected `,` or `]` before {rest}");
        }
        return Ok(Value::List(values));
    }
    Ok(Value::Text(read_text(rest)?))
}

fn read_table(rest: &mut &str) -> Result<Value> {
    ensure!(skip(rest, "{"), "expected a table before {rest}");
    let mut fields = Vec::new();
    while !skip(rest, "}") {
        let (key, behind) = rest.split_once('=').context("expected `key = value` in a table")?;
        *rest = behind.trim_start();
        fields.push((key.trim().to_owned(), read_text(rest)?));
        ensure!(skip(rest, ",") || rest.starts_with('}'), "expected `,` or `}}` before {rest}");
    }
    Ok(Value::Table(fields))
}

fn read_text(rest: &mut &str) -> Result<String> {
    let inside = rest.strip_prefix('"').with_context(|| format!("expected a string before {rest}"))?;
    let (text, behind) = inside.split_once('"').context("a string is not closed")?;
    ensure!(!text.contains('\\'), "escapes are not read here");
    *rest = behind.trim_start();
    Ok(text.to_owned())
}

fn skip(rest: &mut &str, sign: &str) -> bool {
    match rest.strip_prefix(sign) {
        Some(behind) => {
            *rest = behind.trim_start();
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read() {
        let policy = Policy::parse(
            "# why\n[bans]\nmultiple-versions = \"deny\"\nskip = [\n  { crate = \"a@0.2\", reason = \"# [x]\" }, # y\n]\n\
             [licenses]\nallow = [\"MIT\", \"ISC\"]\n",
        )
        .unwrap();
        assert_eq!(policy.licences, ["MIT", "ISC"]);
        assert_eq!(policy.skipped[0].reason, "# [x]");
        assert!(policy.skipped[0].covers("a", "0.2.17"));
        assert!(!policy.skipped[0].covers("a", "0.20.1"));
        assert!(!policy.skipped[0].covers("b", "0.2.1"));
    }

    #[test]
    fn what_is_not_read_is_an_error() {
        fn check(text: &str, expected: &str) {
            let error = format!("{:#}", Policy::parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        check("[bans]\nwildcards = \"deny\"\n", "line 2: bans.wildcards is not read here");
        check("[bans]\nskip = [\n", "line 2: a list is not closed");
        check("[licenses]\nallow = [\"MIT\" \"ISC\"]\n", "expected `,` or `]`");
        check("[licenses]\nallow = 1\n", "expected a string");
        check("[bans]\nskip = [{ name = \"a\" }]\n", "without `crate`");
    }
}
