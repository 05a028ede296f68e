//! How a source is told apart in `Nats-Stream-Source`, as stock does: `<stream>[:<hash of api>][:C=<hash of consumer>] <sequence> <filters>
//! <destinations> <subject> [<identity>]`.

use sha2::{Digest, Sha256};

use crate::config::{Source, SubjectTransform};

/// A source by its name, filters and destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The stream, and where it is.
    pub name: String,
    /// Its filters, joined by form feeds; `>`: everything.
    pub filters: String,
    /// What becomes of the subjects, in the same order; `>`: they stay.
    pub destinations: String,
}

impl Index {
    /// Of a source.
    #[must_use]
    pub fn of(source: &Source) -> Index {
        let everything = |text: &str| if text.is_empty() { ">".to_owned() } else { text.to_owned() };
        let join = |part: fn(&SubjectTransform) -> &str| {
            source.transforms.iter().map(|one| everything(part(one))).collect::<Vec<_>>().join("\x0c")
        };
        let (filters, destinations) = match source.transforms.is_empty() {
            true => (everything(&source.filter), everything("")),
            false => (join(|one| &one.source), join(|one| &one.destination)),
        };
        let external = source.external.as_ref().map(|external| format!(":{}", short_hash(&external.api)));
        let consumer = source.consumer.as_ref().map(|consumer| format!(":C={}", short_hash(&consumer.name)));
        let name = format!("{}{}{}", source.name, external.unwrap_or_default(), consumer.unwrap_or_default());
        Index { name, filters, destinations }
    }

    /// The sequence and the identity in a header's value; `None`: it is of another source.
    pub(crate) fn read<'a>(&self, value: &'a str) -> Option<(u64, &'a str)> {
        let mut fields = value.split(' ');
        let (name, sequence) = (fields.next()?, fields.next()?);
        let (filters, destinations) = (fields.next()?, fields.next()?);
        let is_it = name == self.name && filters == self.filters && destinations == self.destinations;
        let sequence = sequence.parse().ok().filter(|_| is_it)?;
        Some((sequence, fields.nth(1).unwrap_or_default()))
    }
}

/// Eight characters that stand for a name, as stock makes them.
#[must_use]
pub fn short_hash(name: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    Sha256::digest(name.as_bytes()).iter().take(8).map(|byte| char::from(DIGITS[usize::from(*byte) % 62])).collect()
}

#[cfg(test)]
mod tests {
    use super::Index;
    use crate::config::{ExternalStream, Source};

    #[test]
    fn a_header_is_read_by_its_source_only() {
        let external = Some(ExternalStream { api: "$JS.edge.API".into(), deliver: "".into() });
        let index = Index::of(&Source { name: "EV".into(), external, ..Source::default() });
        assert_eq!(index.read("EV:n1VdnVvB 3 > > ev.b AJou4ZKU"), Some((3, "AJou4ZKU")));
        assert_eq!(index.read("EV:n1VdnVvB 3 > > ev.b"), Some((3, "")));
        for other in ["EV 3 > > ev.b", "EV:n1VdnVvB 3 ev.* > ev.b", "EV:n1VdnVvB x > > ev.b", "EV:n1VdnVvB", ""] {
            assert_eq!(index.read(other), None, "{other}");
        }
    }
}
