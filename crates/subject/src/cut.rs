//! Functions of transforms that make something of one token: a part of it, or several tokens.

use crate::transform::TransformError;

/// What becomes of a token. A size that is 0, or not smaller than the token, leaves it whole, as in NATS; sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// So much of its begin.
    Left(usize),
    /// So much of its end.
    Right(usize),
    /// Two, the first of this size.
    SplitFromLeft(usize),
    /// Two, the second of this size.
    SplitFromRight(usize),
    /// Pieces of this size; the last may be smaller.
    SliceFromLeft(usize),
    /// Pieces of this size; the first may be smaller.
    SliceFromRight(usize),
    /// What stands between these texts; every character, when the text is empty.
    Split(Box<str>),
}

impl Cut {
    /// Their names.
    pub(crate) const NAMES: [&str; 7] =
        ["split", "splitFromLeft", "splitFromRight", "sliceFromLeft", "sliceFromRight", "left", "right"];

    /// From the function's name and its second argument.
    pub(crate) fn parse(name: &str, argument: &str, token: &str) -> Result<Cut, TransformError> {
        let wrong = || TransformError::Argument(token.to_owned());
        if name == "split" {
            let is_text = !argument.contains([' ', '.']);
            return if is_text { Ok(Cut::Split(argument.into())) } else { Err(wrong()) };
        }
        let size: i32 = argument.trim_matches(' ').parse().map_err(|_| wrong())?;
        let size = usize::try_from(size).unwrap_or(0);
        Ok(match name {
            "left" => Cut::Left(size),
            "right" => Cut::Right(size),
            "splitFromLeft" => Cut::SplitFromLeft(size),
            "splitFromRight" => Cut::SplitFromRight(size),
            "sliceFromLeft" => Cut::SliceFromLeft(size),
            "sliceFromRight" => Cut::SliceFromRight(size),
            _ => return Err(wrong()),
        })
    }

    /// Can it give more than one token?
    pub(crate) fn multiplies(&self) -> bool {
        !matches!(self, Cut::Left(_) | Cut::Right(_))
    }

    /// Appends what becomes of `token`: never nothing.
    pub(crate) fn apply(&self, token: &[u8], into: &mut Vec<u8>) {
        let within = |size: usize| size > 0 && size < token.len();
        match self {
            Cut::Left(size) if within(*size) => into.extend_from_slice(&token[..*size]),
            Cut::Right(size) if within(*size) => into.extend_from_slice(&token[token.len() - size..]),
            Cut::SplitFromLeft(size) if within(*size) => join([&token[..*size], &token[*size..]], into),
            Cut::SplitFromRight(size) if within(*size) => {
                let (first, second) = token.split_at(token.len() - size);
                join([first, second], into);
            }
            Cut::SliceFromLeft(size) if within(*size) => join(token.chunks(*size), into),
            Cut::SliceFromRight(size) if within(*size) => join(token.rchunks(*size).rev(), into),
            Cut::Split(text) if text.is_empty() => {
                let chunks = token.utf8_chunks().map(|chunk| (chunk.valid(), chunk.invalid()));
                join(chunks.flat_map(characters), into);
            }
            Cut::Split(text) if token.windows(text.len()).any(|at| at == text.as_bytes()) => split(token, text, into),
            _ => into.extend_from_slice(token),
        }
    }
}

/// One by one; what is no UTF-8 is taken byte by byte.
fn characters<'a>((valid, invalid): (&'a str, &'a [u8])) -> impl Iterator<Item = &'a [u8]> {
    let character = |(at, character): (usize, char)| &valid.as_bytes()[at..at + character.len_utf8()];
    valid.char_indices().map(character).chain(invalid.chunks(1))
}

/// Empty pieces are left out; a token of nothing else stays as it is.
fn split(token: &[u8], text: &str, into: &mut Vec<u8>) {
    let (mut pieces, mut begin, mut at) = (Vec::new(), 0, 0);
    while at + text.len() <= token.len() {
        if token[at..].starts_with(text.as_bytes()) {
            pieces.push(&token[begin..at]);
            at += text.len();
            begin = at;
        } else {
            at += 1;
        }
    }
    pieces.push(&token[begin..]);
    pieces.retain(|piece| !piece.is_empty());
    if pieces.is_empty() {
        pieces.push(token);
    }
    join(pieces, into);
}

fn join<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, into: &mut Vec<u8>) {
    for (at, piece) in pieces.into_iter().enumerate() {
        if at > 0 {
            into.push(b'.');
        }
        into.extend_from_slice(piece);
    }
}
