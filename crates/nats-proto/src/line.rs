//! Control lines: tokens parted by blanks, up to a line end. Shared by the client and the leaf protocol.

use crate::refusal::ProtocolError;

/// A token's place in the input.
type Place = (u32, u32);

/// A control line with at most `N` arguments.
#[derive(Debug)]
pub(crate) struct Line<const N: usize> {
    places: [Place; N],
    /// How many arguments there are.
    pub(crate) count: usize,
    /// Offset behind the line end.
    pub(crate) end: usize,
    /// Ended by CR LF.
    pub(crate) crlf: bool,
    /// Exactly one space before each argument and none behind the last: these bytes may be passed on as they are.
    pub(crate) plain: bool,
}

impl<const N: usize> Line<N> {
    /// A line to be filled by [`scan`].
    #[inline(always)]
    pub(crate) fn new() -> Line<N> {
        Line { places: [(0, 0); N], count: 0, end: 0, crlf: false, plain: false }
    }

    /// The n-th argument.
    #[inline(always)]
    pub(crate) fn argument<'a>(&self, bytes: &'a [u8], n: usize) -> &'a [u8] {
        let (start, end) = self.places[n];
        &bytes[start as usize..end as usize]
    }

    /// Where the n-th argument begins.
    #[inline(always)]
    pub(crate) fn start(&self, n: usize) -> usize {
        self.places[n].0 as usize
    }
}

/// Scans the arguments of a line, `start` being the offset behind the verb. False: the line end is not there yet.
///
/// One pass: lines are short, and finding the end first costs more than it saves. The line is filled in place, because moving it around was
/// a third of the time.
#[inline(always)]
pub(crate) fn scan<const N: usize>(
    bytes: &[u8],
    start: usize,
    max: usize,
    line: &mut Line<N>,
) -> Result<bool, ProtocolError> {
    // The line may be as long as its limit and the line end; what is behind it does not matter here.
    let window = &bytes[..bytes.len().min(start.saturating_add(max).saturating_add(2)).min(u32::MAX as usize)];
    let mut at = start;
    let mut count = 0;
    let mut plain = true;
    loop {
        let gap = at;
        while let Some(b' ' | b'\t') = window.get(at) {
            at += 1;
        }
        plain &= at == gap + 1 && window[gap] == b' ';
        let token = at;
        at = token_end(window, at);
        let Some(stop) = window.get(at) else { return unfinished(bytes, window) };
        if at > token {
            let place = line.places.get_mut(count).ok_or(ProtocolError::Arguments)?;
            *place = (token as u32, at as u32);
            count += 1;
        } else {
            plain = false;
        }
        match stop {
            b'\n' => line.end = at + 1,
            b'\r' => match window.get(at + 1) {
                Some(b'\n') => (line.end, line.crlf) = (at + 2, true),
                // A lone CR must not get into a subject, and from there into somebody's line.
                Some(_) => return Err(ProtocolError::Arguments),
                None => return unfinished(bytes, window),
            },
            _ => continue,
        }
        (line.count, line.plain) = (count, plain);
        return if at - start > max { Err(ProtocolError::ControlLineTooLong) } else { Ok(true) };
    }
}

/// Where the token that begins at `at` ends; the end of the window if it does not.
#[inline(always)]
fn token_end(window: &[u8], mut at: usize) -> usize {
    loop {
        at = printable_end(window, at);
        match window.get(at) {
            Some(b' ' | b'\t' | b'\r' | b'\n') | None => return at,
            Some(_) => at += 1,
        }
    }
}

/// The first place from `at` on where a blank or control character may stand: eight bytes at a time as long as there are eight.
#[inline(always)]
fn printable_end(window: &[u8], mut at: usize) -> usize {
    const LOW: u64 = u64::from_ne_bytes([b' ' + 1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    while let Some(eight) = window.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*eight);
        // The high bit of each byte that is below `LOW`; exact for the first such byte, as borrows only go upwards.
        let found = word.wrapping_sub(LOW) & !word & HIGH;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at
}

/// A number without leading zeros and the CR LF behind it; with it, where the next line begins. At most nine digits.
#[inline(always)]
pub(crate) fn canonical_size(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    let mut at = start;
    let mut number = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        number = number * 10 + usize::from(digit - b'0');
        at += 1;
        if at - start > 9 {
            return None;
        }
    }
    let leads_with_zero = at - start > 1 && bytes[start] == b'0';
    let ends = bytes.get(at) == Some(&b'\r') && bytes.get(at + 1) == Some(&b'\n');
    (at > start && !leads_with_zero && ends).then_some((number, at + 2))
}

/// Equality of short texts of equal length without a call, eight bytes at a time.
#[inline(always)]
pub(crate) fn equal(one: &[u8], two: &[u8]) -> bool {
    if !(8..=64).contains(&one.len()) || one.len() != two.len() {
        return one == two;
    }
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk::<8>().map_or(0, |eight| u64::from_ne_bytes(*eight));
    let last = one.len() - 8;
    let mut difference = word(one, last) ^ word(two, last);
    let mut at = 0;
    while at < last {
        difference |= word(one, at) ^ word(two, at);
        at += 8;
    }
    difference == 0
}

fn unfinished(bytes: &[u8], window: &[u8]) -> Result<bool, ProtocolError> {
    if window.len() < bytes.len() { Err(ProtocolError::ControlLineTooLong) } else { Ok(false) }
}

/// The rest of a line as one piece, blanks around it cut off, and the offset behind it. `None`: the line end is not there yet.
pub(crate) fn rest(bytes: &[u8], start: usize, max: usize) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let window = &bytes[start..bytes.len().min(start.saturating_add(max).saturating_add(2))];
    match memchr::memchr(b'\n', window) {
        Some(at) => {
            let text = window[..at].strip_suffix(b"\r").unwrap_or(&window[..at]);
            if text.len() > max {
                return Err(ProtocolError::ControlLineTooLong);
            }
            Ok(Some((text.trim_ascii(), start + at + 1)))
        }
        None if window.len() >= max.saturating_add(2) => Err(ProtocolError::ControlLineTooLong),
        None => Ok(None),
    }
}

/// The text of an `-ERR`, without its quotes.
pub(crate) fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'")).unwrap_or(text)
}

/// Does the input begin with this verb, whatever its case? `Ok(false)`: so far it does, but it ends too early.
pub(crate) fn verb(bytes: &[u8], name: &[u8]) -> Result<bool, ProtocolError> {
    let given = &bytes[..bytes.len().min(name.len())];
    if !given.eq_ignore_ascii_case(&name[..given.len()]) {
        return Err(ProtocolError::UnknownOperation);
    }
    Ok(given.len() == name.len())
}

/// A decimal number without sign. Leading zeros are fine, as they are for stock.
#[inline(always)]
pub(crate) fn number(digits: &[u8]) -> Result<u64, ProtocolError> {
    // 18 digits always fit.
    if digits.is_empty() || digits.len() > 18 {
        return Err(ProtocolError::Arguments);
    }
    let mut value = 0u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(ProtocolError::Arguments);
        }
        value = value * 10 + u64::from(digit);
    }
    Ok(value)
}

/// A payload that follows a control line.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    /// It is there.
    Whole {
        /// Header block and body.
        message: &'a [u8],
        /// Offset behind the frame.
        end: usize,
        /// Followed by CR LF.
        crlf: bool,
    },
    /// So many bytes are needed, counted from the start of the frame.
    Needs(usize),
}

/// Cuts the payload out; `line_end` is where it begins. Its size has been checked against the limit.
#[inline(always)]
pub(crate) fn body(bytes: &[u8], line_end: usize, crlf: bool, total: usize) -> Result<Body<'_>, ProtocolError> {
    let end = line_end.saturating_add(total);
    match (bytes.get(end), bytes.get(end.saturating_add(1))) {
        (Some(b'\r'), Some(b'\n')) => Ok(Body::Whole { message: &bytes[line_end..end], end: end + 2, crlf: true }),
        // Who ends lines with LF alone may end payloads so. Nobody else: it would hide a payload that is one byte short.
        (Some(b'\n'), _) if !crlf => Ok(Body::Whole { message: &bytes[line_end..end], end: end + 1, crlf: false }),
        (Some(b'\r'), None) => Ok(Body::Needs(end.saturating_add(2))),
        (Some(_), _) => Err(ProtocolError::PayloadEnd),
        (None, _) => Ok(Body::Needs(end.saturating_add(if crlf { 2 } else { 1 }))),
    }
}
