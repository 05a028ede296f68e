//! Entries: their head of variable-length numbers, and the name behind it.

use crate::{ArchiveError, LONGEST_NAME};

/// An entry of an archive, borrowed from its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// `state.json`, `consumers/<name>`, or a message's subject.
    pub name: &'a [u8],
    /// When a message was stored, nanoseconds since 1970.
    pub time: i64,
    /// A message's sequence; 0 for what is no message.
    pub sequence: u64,
    /// A message's header block.
    pub headers: &'a [u8],
    /// Its body, or the content of what is no message.
    pub body: &'a [u8],
}

impl Entry<'_> {
    /// What every archive ends with: nothing is missing of it.
    pub const END: Entry<'static> = Entry { name: b"", time: 0, sequence: 0, headers: b"", body: b"" };
}

/// The numbers of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) name: usize,
    pub(crate) time: i64,
    pub(crate) sequence: u64,
    pub(crate) headers: u64,
    pub(crate) body: u64,
}

impl Head {
    /// Reads a head, and how long it is; `None`: it has not arrived completely.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Head, usize)>, ArchiveError> {
        let mut rest = bytes;
        let mut numbers = [0; 5];
        for number in &mut numbers {
            match take_number(&mut rest)? {
                Some(value) => *number = value,
                None => return Ok(None),
            }
        }
        let [name, time, sequence, headers, body] = numbers;
        let name = usize::try_from(name).ok().filter(|name| *name <= LONGEST_NAME).ok_or(ArchiveError::Invalid)?;
        if i64::try_from(headers)
            .ok()
            .zip(i64::try_from(body).ok())
            .is_none_or(|(one, two)| one.checked_add(two).is_none())
        {
            return Err(ArchiveError::Invalid);
        }
        let time = (time >> 1) as i64 ^ -((time & 1) as i64);
        Ok(Some((Head { name, time, sequence, headers, body }, bytes.len() - rest.len())))
    }

    /// Bytes of its content.
    pub(crate) fn size(&self) -> u64 {
        self.headers + self.body
    }
}

/// Appends an entry.
pub(crate) fn write(entry: &Entry<'_>, out: &mut Vec<u8>) {
    put_number(entry.name.len() as u64, out);
    put_number(((entry.time << 1) ^ (entry.time >> 63)) as u64, out);
    put_number(entry.sequence, out);
    put_number(entry.headers.len() as u64, out);
    put_number(entry.body.len() as u64, out);
    for part in [entry.name, entry.headers, entry.body] {
        out.extend_from_slice(part);
    }
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number from the front; `None`: it has not arrived completely.
fn take_number(bytes: &mut &[u8]) -> Result<Option<u64>, ArchiveError> {
    let mut number = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        if index == 9 && *byte > 1 {
            return Err(ArchiveError::Invalid);
        }
        number |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Ok(Some(number));
        }
    }
    if bytes.len() >= 10 { Err(ArchiveError::Invalid) } else { Ok(None) }
}
