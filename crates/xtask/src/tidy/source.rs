//! Our sources as text that can be searched: comments and literals blanked, tests told apart from the product.
//!
//! Blanking keeps every line where it was. Macros are read as the code they look like.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness::peers::workspace;

/// A file of ours.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to the workspace, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// The text without comments and the insides of literals.
    pub(super) code: String,
    /// `code` without what is only compiled for tests; blank for files that are tests as a whole.
    pub(super) product: String,
}

impl Source {
    /// The folder of the crate: `crates/subject`, `gateway`.
    pub(super) fn package(&self) -> &str {
        let inside = self.path.strip_prefix("crates/").unwrap_or(&self.path);
        let end = inside.find('/').unwrap_or(inside.len());
        &self.path[..self.path.len() - inside.len() + end]
    }

    fn new(path: String, text: String) -> Source {
        let code = blank(&text);
        let product = if path.starts_with("tests/") { lines_only(&code) } else { without_tests(&code) };
        Source { path, text, code, product }
    }
}

/// Every Rust file of the workspace, by path.
pub(super) fn read_all() -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    for folder in ["gateway", "cloud-hub", "crates", "tests", "fuzz"] {
        collect(&workspace().join(folder), &mut paths)?;
    }
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let relative = path.strip_prefix(workspace()).unwrap_or(&path);
        sources.push(Source::new(relative.to_string_lossy().into_owned(), text));
    }
    let tests: BTreeSet<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        if tests
            .iter()
            .any(|module| source.path == format!("{module}.rs") || source.path.starts_with(&format!("{module}/")))
        {
            source.product = lines_only(&source.code);
        }
    }
    Ok(sources)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                paths.push(path);
            }
        }
    }
    Ok(())
}

/// Paths, without `.rs`, of the modules that a file declares for tests only (`#[cfg(test)] mod x;`).
fn test_modules(source: &Source) -> Vec<String> {
    let path = Path::new(&source.path);
    let stem = path.file_stem().unwrap_or_default();
    let parent = path.parent().unwrap_or(path);
    let folder = match stem.to_str() {
        Some("lib" | "main" | "mod") => parent.to_owned(),
        _ => parent.join(stem),
    };
    let declared = source.code.split(CFG_TEST).skip(1).filter_map(|rest| {
        let (head, _) = rest.split_once(';')?;
        let name = head.trim().trim_start_matches("pub(crate)").trim().strip_prefix("mod ")?;
        (!name.contains('{')).then(|| folder.join(name.trim()).to_string_lossy().into_owned())
    });
    declared.collect()
}

const CFG_TEST: &str = "#[cfg(test)]";

/// Blanks every item behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(CFG_TEST) {
        let start = from + found;
        let end = item_end(code, start + CFG_TEST.len());
        for byte in &mut bytes[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Where the item that begins at `from` ends: its `;`, or the brace that closes its first one.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (index, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b';' if depth == 0 => return index + 1,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn lines_only(code: &str) -> String {
    code.chars().filter(|letter| *letter == '\n').collect()
}

/// Replaces comments and the insides of literals by blanks; bytes that are not ASCII too, so that offsets stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = vec![b' '; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let end = match literal_end(bytes, at) {
            Some(end) => end,
            None => {
                if bytes[at].is_ascii() {
                    out[at] = bytes[at];
                }
                at + 1
            }
        };
        for index in at..end {
            if bytes[index] == b'\n' {
                out[index] = b'\n';
            }
        }
        at = end;
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Where the comment or literal that begins at `at` ends; `None` when none begins there.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let after_word = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => Some(position(bytes, at, |byte| byte == b'\n')),
        [b'/', b'*', ..] => Some(block_comment_end(bytes, at)),
        [b'"', ..] => Some(string_end(bytes, at + 1)),
        [b'\'', ..] => char_end(bytes, at),
        [b'r', b'"' | b'#', ..] if !after_word => raw_string_end(bytes, at + 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !after_word => raw_string_end(bytes, at + 2),
        _ => None,
    }
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut index = at;
    while index < bytes.len() {
        match &bytes[index..] {
            [b'/', b'*', ..] => {
                depth += 1;
                index += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                index += 2;
                if depth == 0 {
                    return index;
                }
            }
            _ => index += 1,
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], mut index: usize) -> usize {
    while index < bytes.len() {
        match bytes[index] {
            b'\\' => index += 2,
            b'"' => return index + 1,
            _ => index += 1,
        }
    }
    bytes.len()
}

/// A character literal; a lifetime is code.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        // The escaped character itself may be the quote.
        return Some((position(bytes, at + 3, |byte| byte == b'\'') + 1).min(bytes.len()));
    }
    // One character of up to four bytes.
    let close = (at + 2..=at + 5).find(|index| bytes.get(*index) == Some(&b'\''))?;
    let inside = std::str::from_utf8(&bytes[at + 1..close]).ok()?;
    (inside.chars().count() == 1).then_some(close + 1)
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let open = position(bytes, at, |byte| byte != b'#');
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let hashes = open - at;
    let mut index = open + 1;
    while index < bytes.len() {
        let closes = bytes[index] == b'"'
            && bytes[index + 1..].iter().take(hashes).filter(|byte| **byte == b'#').count() == hashes;
        index += 1;
        if closes {
            return Some(index + hashes);
        }
    }
    Some(bytes.len())
}

fn position(bytes: &[u8], from: usize, found: impl Fn(u8) -> bool) -> usize {
    (from..bytes.len()).find(|index| found(bytes[*index])).unwrap_or(bytes.len())
}

/// Whether a byte can be part of a name.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(blank(text).split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
        assert_eq!(blank(text).lines().count(), text.lines().count());
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        check("a // todo!()\nb", "a b");
        check("a /* x /* y */ z */ b", "a b");
        check(r#"say("dbg!(\" x") + 1"#, "say( ) + 1");
        check(r###"let a = r#"std::fs "quoted""#; b"###, "let a = ; b");
        check(r#"let a = br"\"; b"#, "let a = ; b");
        check(r"if c == '\'' || c == '{' || c == 'é' { 'a: loop {} }", "if c == || c == || c == { 'a: loop {} }");
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check("let r#type = 1;", "let r#type = 1;");
    }

    #[test]
    fn tests_are_no_product() {
        let source = Source::new(
            "crates/x/src/a.rs".to_owned(),
            "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { {} } }\n#[cfg(test)]\nuse c;\nfn d() {}\n#[cfg(test)]\nmod e;\n".to_owned(),
        );
        assert_eq!(source.product.split_whitespace().collect::<Vec<_>>(), ["fn", "a()", "{}", "fn", "d()", "{}"]);
        assert_eq!(test_modules(&source), ["crates/x/src/a/e"]);
        assert_eq!(source.package(), "crates/x");
    }
}
