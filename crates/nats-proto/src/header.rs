//! Header blocks: `NATS/1.0[ status[ description]]`, lines of `Name: value`, a blank line.
//!
//! [`Headers`] is a lenient view for looking things up in blocks that are passed on as they came (stock passes even odd first lines).
//! [`check`] says whether a block is well formed. [`HeaderBuilder`] makes blocks that are. Names are case-sensitive and may repeat (ADR-4).

use crate::line;

/// The version that begins every block.
pub const VERSION: &[u8] = b"NATS/1.0";

/// Why a header block, name or value is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It does not begin with `NATS/1.0`.
    #[error("header block does not begin with NATS/1.0")]
    Version,
    /// What follows the version is no status.
    #[error("header block has an invalid status line")]
    Status,
    /// It does not end with a blank line, or goes on after it.
    #[error("header block does not end with a blank line")]
    End,
    /// A line without colon, or with a name that is empty or has blanks or control characters.
    #[error("header block has an invalid name")]
    Name,
    /// A value with a line break.
    #[error("header value contains a line break")]
    Value,
}

/// A lenient view of a block. Looking never fails; lines that are no headers are passed over.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    status: &'a [u8],
    lines: &'a [u8],
}

impl<'a> Headers<'a> {
    /// A view of a block, or of nothing when it is empty.
    #[must_use]
    pub fn new(block: &'a [u8]) -> Headers<'a> {
        let (first, lines) = cut_line(block);
        Headers { status: first.strip_prefix(VERSION).unwrap_or_default().trim_ascii(), lines }
    }

    /// The first value of a name, exactly as spelled.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// Names and values in their order, blanks around values cut off.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.lines;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let (line, behind) = cut_line(rest);
                if line.is_empty() {
                    return None;
                }
                rest = behind;
                if let Some(colon) = memchr::memchr(b':', line) {
                    return Some((&line[..colon], line[colon + 1..].trim_ascii()));
                }
            }
            None
        })
    }

    /// Code and description of the status line, if it has a code.
    #[must_use]
    pub fn status(&self) -> Option<(u16, &'a [u8])> {
        let end = self.status.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.status.len());
        let code = line::number(&self.status[..end]).ok().and_then(|code| u16::try_from(code).ok())?;
        Some((code, self.status[end..].trim_ascii()))
    }
}

/// A line without its end, and what is behind it.
fn cut_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', bytes) {
        Some(at) => (bytes[..at].strip_suffix(b"\r").unwrap_or(&bytes[..at]), &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

/// Is the block well formed: version, valid names and values, lines ended by CR LF, one blank line at the very end?
///
/// # Errors
/// What is wrong first.
pub fn check(block: &[u8]) -> Result<(), HeaderError> {
    let rest = block.strip_prefix(VERSION).ok_or(HeaderError::Version)?;
    let (status, mut rest) = checked_line(rest)?;
    if !status.is_empty() && Headers::new(block).status().is_none() {
        return Err(HeaderError::Status);
    }
    loop {
        let (line, behind) = checked_line(rest)?;
        if line.is_empty() {
            return if behind.is_empty() { Ok(()) } else { Err(HeaderError::End) };
        }
        let colon = memchr::memchr(b':', line).ok_or(HeaderError::Name)?;
        check_name(&line[..colon])?;
        rest = behind;
    }
}

fn checked_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), HeaderError> {
    let at = memchr::memchr(b'\n', bytes).ok_or(HeaderError::End)?;
    let line = bytes[..at].strip_suffix(b"\r").ok_or(HeaderError::Value)?;
    if line.contains(&b'\r') { Err(HeaderError::Value) } else { Ok((line, &bytes[at + 1..])) }
}

/// May it be a header's name: printable, without blank and colon, not empty?
///
/// # Errors
/// [`HeaderError::Name`].
pub fn check_name(name: &[u8]) -> Result<(), HeaderError> {
    let valid = !name.is_empty() && name.iter().all(|byte| matches!(byte, b'!'..=b'9' | b';'..=b'~'));
    if valid { Ok(()) } else { Err(HeaderError::Name) }
}

/// Builds a block. Always valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderBuilder {
    /// The block without its final blank line.
    bytes: Vec<u8>,
}

impl Default for HeaderBuilder {
    fn default() -> HeaderBuilder {
        HeaderBuilder::new()
    }
}

impl HeaderBuilder {
    /// A block without headers.
    #[must_use]
    pub fn new() -> HeaderBuilder {
        HeaderBuilder { bytes: [VERSION, b"\r\n"].concat() }
    }

    /// A block that begins with a status.
    ///
    /// # Errors
    /// When the description has a line break.
    pub fn with_status(code: u16, description: &str) -> Result<HeaderBuilder, HeaderError> {
        check_value(description.as_bytes())?;
        let blank = if description.is_empty() { "" } else { " " };
        Ok(HeaderBuilder { bytes: format!("NATS/1.0 {code:03}{blank}{description}\r\n").into_bytes() })
    }

    /// Goes on from a block (or from none, when it is empty).
    ///
    /// # Errors
    /// When the block is not well formed.
    pub fn from_block(block: &[u8]) -> Result<HeaderBuilder, HeaderError> {
        if block.is_empty() {
            return Ok(HeaderBuilder::new());
        }
        check(block)?;
        Ok(HeaderBuilder { bytes: block[..block.len() - 2].to_vec() })
    }

    /// Adds a header, also when one of that name is there.
    ///
    /// # Errors
    /// When name or value is not valid.
    pub fn append(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        check_name(name)?;
        check_value(value)?;
        for piece in [name, b": ", value, b"\r\n"] {
            self.bytes.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Makes it the only header of that name.
    ///
    /// # Errors
    /// When name or value is not valid.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        check_name(name)?;
        check_value(value)?;
        self.remove(name);
        self.append(name, value)
    }

    /// Removes all headers of that name; true when there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.bytes.len();
        self.rewrite(|have, line, into| {
            if have != name {
                into.extend_from_slice(line);
            }
        });
        self.bytes.len() != before
    }

    /// Renames all headers whose names begin with `from`, whatever their case, so that they begin with `to`. What is behind the prefix stays.
    ///
    /// # Errors
    /// When `to` is no valid name.
    pub fn rename_prefix(&mut self, from: &[u8], to: &[u8]) -> Result<(), HeaderError> {
        check_name(to)?;
        self.rewrite(|have, line, into| {
            let begins = have.get(..from.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(from));
            if begins {
                into.extend_from_slice(to);
                into.extend_from_slice(&line[from.len()..]);
            } else {
                into.extend_from_slice(line);
            }
        });
        Ok(())
    }

    /// Copies line by line; `each` gets name and whole line.
    fn rewrite(&mut self, mut each: impl FnMut(&[u8], &[u8], &mut Vec<u8>)) {
        let mut into = Vec::with_capacity(self.bytes.len());
        for (number, line) in self.bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            match memchr::memchr(b':', line) {
                Some(colon) if number > 0 => each(&line[..colon], line, &mut into),
                _ => into.extend_from_slice(line),
            }
        }
        self.bytes = into;
    }

    /// Without any header and status: such a message needs no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == VERSION.len() + 2
    }

    /// Length of the block, bytes.
    #[must_use]
    pub fn block_len(&self) -> usize {
        self.bytes.len() + 2
    }

    /// The block.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes
    }

    /// Appends the block.
    pub fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.bytes);
        into.extend_from_slice(b"\r\n");
    }
}

fn check_value(value: &[u8]) -> Result<(), HeaderError> {
    if memchr::memchr2(b'\r', b'\n', value).is_some() { Err(HeaderError::Value) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: &[u8] = b"NATS/1.0\r\nNats-Rollup: all\r\nTag: a\r\nnats-rollup:  sub \r\nTag:b\r\n\r\n";

    #[test]
    fn looks_up_exactly_as_spelled() {
        let headers = Headers::new(BLOCK);
        assert_eq!(headers.get(b"Nats-Rollup"), Some(&b"all"[..]));
        assert_eq!(headers.get(b"nats-rollup"), Some(&b"sub"[..]));
        assert_eq!(headers.get(b"NATS-ROLLUP"), None);
        assert_eq!(headers.iter().count(), 4);
        assert_eq!(headers.status(), None);
        assert_eq!(Headers::new(b"").iter().count(), 0);
        assert_eq!(Headers::new(b"odd\r\nbroken\r\nA: b\r\n\r\nC: d\r\n").iter().count(), 1);
    }

    #[test]
    fn status_lines() {
        let status = |block| Headers::new(block).status();
        assert_eq!(status(b"NATS/1.0 503\r\n\r\n"), Some((503, &b""[..])));
        assert_eq!(status(b"NATS/1.0 100 Idle Heartbeat\r\nA: b\r\n\r\n"), Some((100, &b"Idle Heartbeat"[..])));
        assert_eq!(status(b"NATS/1.0 99999999 x\r\n\r\n"), None);
        let built = HeaderBuilder::with_status(408, "Request Timeout").unwrap().finish();
        assert_eq!(built, b"NATS/1.0 408 Request Timeout\r\n\r\n");
        assert!(HeaderBuilder::with_status(400, "a\r\nb").is_err());
    }

    #[test]
    fn validity() {
        for good in [BLOCK, b"NATS/1.0\r\n\r\n", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\r\nA:\r\n\r\n"] {
            assert_eq!(check(good), Ok(()));
        }
        let cases: [(&[u8], HeaderError); 9] = [
            (b"", HeaderError::Version),
            (b"HTTP/1.1 200\r\n\r\n", HeaderError::Version),
            (b"NATS/1.0 x\r\n\r\n", HeaderError::Status),
            (b"NATS/1.0\r\n", HeaderError::End),
            (b"NATS/1.0\r\n\r\nA: b\r\n\r\n", HeaderError::End),
            (b"NATS/1.0\r\nbroken\r\n\r\n", HeaderError::Name),
            (b"NATS/1.0\r\nA B: c\r\n\r\n", HeaderError::Name),
            (b"NATS/1.0\r\nA: b\n\r\n", HeaderError::Value),
            (b"NATS/1.0\r\nA: b\rNats-Rollup: all\r\n\r\n", HeaderError::Value),
        ];
        for (block, error) in cases {
            assert_eq!(check(block), Err(error), "{}", block.escape_ascii());
        }
    }

    #[test]
    fn no_command_to_the_hub_survives_the_renaming() {
        let mut builder = HeaderBuilder::from_block(BLOCK).unwrap();
        builder.rename_prefix(b"Nats-", b"Tributary-Origin-").unwrap();
        builder.append(b"Nats-Msg-Id", b"7").unwrap();
        let expected = "NATS/1.0\r\nTributary-Origin-Rollup: all\r\nTag: a\r\nTributary-Origin-rollup:  sub \r\nTag:b\r\n\
                        Nats-Msg-Id: 7\r\n\r\n";
        assert_eq!(String::from_utf8(builder.finish()).unwrap(), expected);
    }

    #[test]
    fn set_and_remove() {
        let mut builder = HeaderBuilder::from_block(BLOCK).unwrap();
        builder.set(b"Tag", b"c").unwrap();
        assert!(builder.remove(b"Nats-Rollup") && !builder.remove(b"Nope"));
        assert_eq!(builder.set(b"A:", b""), Err(HeaderError::Name));
        assert_eq!(builder.append(b"A", b"x\ny"), Err(HeaderError::Value));
        assert_eq!(builder.finish(), b"NATS/1.0\r\nnats-rollup:  sub \r\nTag: c\r\n\r\n");
        assert!(HeaderBuilder::from_block(b"").unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn what_is_built_is_valid_and_read_again(
            headers in prop::collection::vec(("[!-9;-~]{1,10}", "[ -~]{0,10}"), 0..6),
        ) {
            let mut builder = HeaderBuilder::new();
            for (name, value) in &headers {
                builder.append(name.as_bytes(), value.as_bytes()).unwrap();
            }
            prop_assert_eq!(builder.block_len(), builder.clone().finish().len());
            let block = builder.finish();
            prop_assert_eq!(check(&block), Ok(()));
            let read: Vec<_> = Headers::new(&block).iter().collect();
            let given: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_bytes(), value.trim_ascii().as_bytes())).collect();
            prop_assert_eq!(read, given);
            prop_assert_eq!(HeaderBuilder::from_block(&block).unwrap().finish(), block);
        }

        #[test]
        fn any_bytes_are_survived(block in "(NATS/1.0)?[ -~\r\n]{0,60}") {
            let valid = check(block.as_bytes()).is_ok();
            let headers = Headers::new(block.as_bytes());
            let _ = headers.status();
            let seen = headers.iter().count();
            prop_assert!(!valid || seen == block.matches("\r\n").count() - 2);
        }
    }
}
