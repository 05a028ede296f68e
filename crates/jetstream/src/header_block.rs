//! Header blocks of messages that the server itself changes or makes. Keys are compared as they are written, as nats-server does.

/// What every block begins with.
const START: &[u8] = b"NATS/1.0\r\n";
const END: &[u8] = b"\r\n";

/// The value of the first header with this key, without blanks around it; `None`: there is no such header.
pub(crate) fn value<'a>(block: &'a [u8], key: &str) -> Option<&'a [u8]> {
    lines(block).find_map(|line| {
        let value = line.strip_prefix(key.as_bytes())?.strip_prefix(b":")?;
        Some(value.trim_ascii())
    })
}

/// Appends a header; an empty block begins with it.
pub(crate) fn add(block: &mut Vec<u8>, key: &str, value: &[u8]) {
    if block.ends_with(END) && block.len() > START.len() {
        block.truncate(block.len() - END.len());
    } else {
        block.clear();
        block.extend_from_slice(START);
    }
    block.extend_from_slice(key.as_bytes());
    block.extend_from_slice(b": ");
    block.extend_from_slice(value);
    block.extend_from_slice(b"\r\n\r\n");
}

/// The block without the headers that are `unwanted`; empty when none is left.
pub(crate) fn without(block: &[u8], unwanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut kept = START.to_vec();
    for line in lines(block) {
        let key = &line[..memchr::memchr(b':', line).unwrap_or(line.len())];
        if !unwanted(key) {
            kept.extend_from_slice(line);
        }
    }
    if kept.len() == START.len() {
        return Vec::new();
    }
    kept.extend_from_slice(END);
    kept
}

/// The block with one header replaced, or appended.
pub(crate) fn set(block: &[u8], key: &str, value: &[u8]) -> Vec<u8> {
    let mut changed = Vec::with_capacity(block.len() + key.len() + value.len() + 6);
    let Some(line) =
        lines(block).find(|line| line.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b":")))
    else {
        changed.extend_from_slice(block);
        add(&mut changed, key, value);
        return changed;
    };
    let start = line.as_ptr() as usize - block.as_ptr() as usize;
    changed.extend_from_slice(&block[..start + key.len() + 1]);
    changed.push(b' ');
    changed.extend_from_slice(value);
    changed.extend_from_slice(END);
    changed.extend_from_slice(&block[start + line.len()..]);
    changed
}

/// The headers' lines with their ends, without the first and the last line of the block.
fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let rest = memchr::memchr(b'\n', block).map_or(&b""[..], |end| &block[end + 1..]);
    rest.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n") && *line != END)
}

#[cfg(test)]
mod tests {
    use super::{add, set, value, without};

    const BLOCK: &[u8] = b"NATS/1.0\r\nA: 1\r\nNats-Schedule:  @at x \r\nNats-Schedule-TTL: 5\r\nB:2\r\n\r\n";

    #[test]
    fn headers_are_found_added_and_taken_out() {
        assert_eq!(value(BLOCK, "Nats-Schedule"), Some(&b"@at x"[..]));
        assert_eq!((value(BLOCK, "B"), value(BLOCK, "b")), (Some(&b"2"[..]), None));
        let kept = without(BLOCK, |key| key.starts_with(b"Nats-Schedule"));
        assert_eq!(kept, b"NATS/1.0\r\nA: 1\r\nB:2\r\n\r\n");
        assert_eq!(without(BLOCK, |_| true), b"");
        let mut block = kept;
        add(&mut block, "C", b"3");
        assert_eq!(block, b"NATS/1.0\r\nA: 1\r\nB:2\r\nC: 3\r\n\r\n");
        let mut block = Vec::new();
        add(&mut block, "C", b"3");
        assert_eq!(block, b"NATS/1.0\r\nC: 3\r\n\r\n");
    }

    #[test]
    fn a_header_is_replaced_where_it_stands() {
        assert_eq!(set(b"NATS/1.0\r\nA:1\r\nB: 2\r\n\r\n", "A", b"-10"), b"NATS/1.0\r\nA: -10\r\nB: 2\r\n\r\n");
        assert_eq!(set(b"NATS/1.0\r\nAB: 1\r\n\r\n", "A", b"2"), b"NATS/1.0\r\nAB: 1\r\nA: 2\r\n\r\n");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_block(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
            let _ = (value(&bytes, "A"), set(&bytes, "A", b"1"), without(&bytes, |key| key == b"A"));
        }
    }
}
