//! The bytes of stored records: variable-length numbers and length-prefixed texts, written in order and read back in the same order.
//!
//! Each kind of record begins with a version byte of its own, so that a later release can read what an earlier one wrote.

use std::collections::BTreeMap;

use subject::Filter;

use crate::store::StoreError;

/// Appends a number: seven bits a byte, low bits first.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number; small magnitudes stay short.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends a text.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends filters.
pub(crate) fn put_filters(out: &mut Vec<u8>, filters: &[Filter]) {
    put(out, filters.len() as u64);
    filters.iter().for_each(|filter| put_text(out, filter.as_str()));
}

/// Appends key-value pairs.
pub(crate) fn put_map(out: &mut Vec<u8>, map: &BTreeMap<String, String>) {
    put(out, map.len() as u64);
    for (key, value) in map {
        put_text(out, key);
        put_text(out, value);
    }
}

/// Reads a record. Anything that doesn't fit is [`StoreError::Damaged`].
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`; `what` names the record in errors. The first byte must be `version`.
    pub(crate) fn new(bytes: &'a [u8], version: u8, what: &'static str) -> Result<Reader<'a>, StoreError> {
        match bytes.split_first() {
            Some((first, rest)) if *first == version => Ok(Reader { rest, what }),
            _ => Err(StoreError::Damaged(format!("{what}: unknown version"))),
        }
    }

    fn damaged(&self) -> StoreError {
        StoreError::Damaged(format!("{}: too short or out of range", self.what))
    }

    /// What was not read: a record inside of this one.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, StoreError> {
        let (byte, rest) = self.rest.split_first().ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.byte()? != 0)
    }

    pub(crate) fn number(&mut self) -> Result<u64, StoreError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.damaged())
    }

    pub(crate) fn number_u32(&mut self) -> Result<u32, StoreError> {
        u32::try_from(self.number()?).map_err(|_| self.damaged())
    }

    pub(crate) fn signed(&mut self) -> Result<i64, StoreError> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, StoreError> {
        let len = self.number()?;
        let (text, rest) =
            usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len)).ok_or_else(|| self.damaged())?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| self.damaged())
    }

    pub(crate) fn filters(&mut self) -> Result<Vec<Filter>, StoreError> {
        let count = self.number()?;
        (0..count).map(|_| Filter::parse(self.text()?).map_err(|_| self.damaged())).collect()
    }

    pub(crate) fn map(&mut self) -> Result<BTreeMap<String, String>, StoreError> {
        let count = self.number()?;
        (0..count).map(|_| Ok((self.text()?.to_owned(), self.text()?.to_owned()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Reader, put, put_signed, put_text};

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number in any::<u64>(), signed in any::<i64>(), text in ".{0,40}") {
            let mut bytes = vec![3];
            put(&mut bytes, number);
            put_signed(&mut bytes, signed);
            put_text(&mut bytes, &text);
            let mut reader = Reader::new(&bytes, 3, "test").expect("version");
            assert_eq!(reader.number().expect("number"), number);
            assert_eq!(reader.signed().expect("signed"), signed);
            assert_eq!(reader.text().expect("text"), text);
            assert!(reader.is_at_end());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let Ok(mut reader) = Reader::new(&bytes, 0, "test") else { return Ok(()) };
            let _ = (reader.filters().is_ok(), reader.map().is_ok(), reader.number().is_ok());
        }
    }
}
