//! How long files and functions are. Counted are lines of the product: a file's tests are no reason to split it.

use std::cmp::Reverse;

use super::source::{Source, is_word};

/// A file beyond this must be defended in [`LONG_FILES`].
const FILE_LINES: usize = 800;
/// A function beyond this is marked: why?
const FUNCTION_LINES: usize = 70;
/// How many of each are printed.
const SHOWN: usize = 20;

/// Files that may be long, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

struct Function<'a> {
    name: &'a str,
    path: &'a str,
    line: usize,
    lines: usize,
}

/// Files that are too long, and exceptions that are none any more.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let long = product_lines(source) > FILE_LINES;
        match (long, LONG_FILES.iter().any(|(path, _)| *path == source.path)) {
            (true, false) => findings.push(format!(
                "{}: {} lines: split it where the second concern begins, or defend it in `LONG_FILES`",
                source.path,
                product_lines(source)
            )),
            (false, true) => findings.push(format!("{}: no longer long: take it off `LONG_FILES`", source.path)),
            _ => {}
        }
    }
    findings
}

/// Prints the longest of each.
pub(super) fn print(sources: &[Source]) {
    let mut files: Vec<(usize, &str)> =
        sources.iter().map(|source| (product_lines(source), source.path.as_str())).collect();
    files.sort_by_key(|(lines, path)| (Reverse(*lines), *path));
    println!("longest files (lines without tests)");
    for (lines, path) in files.iter().take(SHOWN) {
        println!("{lines:6} {path}");
    }
    let mut functions: Vec<Function> = sources.iter().flat_map(functions).collect();
    functions.sort_by_key(|function| (Reverse(function.lines), function.path, function.line));
    println!("longest functions");
    for Function { name, path, line, lines } in functions.iter().take(SHOWN) {
        let why = if *lines > FUNCTION_LINES { "   why?" } else { "" };
        println!("{lines:6} {name} {path}:{line}{why}");
    }
}

/// Lines that are not tests; a file of the suites counts whole.
fn product_lines(source: &Source) -> usize {
    let all = source.text.lines().count();
    if source.product.trim().is_empty() {
        return all;
    }
    let in_tests = source.code.lines().zip(source.product.lines());
    all - in_tests.filter(|(code, product)| !code.trim().is_empty() && product.trim().is_empty()).count()
}

fn functions(source: &Source) -> Vec<Function<'_>> {
    let code = &source.code;
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && is_word(bytes[at - 1]) {
            continue;
        }
        let rest = code[at + 3..].trim_start();
        let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
        if let (true, Some(end)) = (length > 0, body_end(bytes, at)) {
            let line = code[..at].matches('\n').count() + 1;
            let lines = code[at..end].matches('\n').count() + 1;
            found.push(Function { name: &rest[..length], path: &source.path, line, lines });
        }
    }
    found
}

/// Where the function that begins at `from` ends; `None` for a declaration.
fn body_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut brackets = 0_usize;
    let mut braces = 0_usize;
    for (index, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b';' if brackets == 0 && braces == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}
