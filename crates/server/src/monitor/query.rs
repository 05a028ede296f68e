//! The part of a URL behind the question mark.

use super::BadQuery;

/// Pairs that are looked at; a request's header is bounded by itself.
const MAX_PAIRS: usize = 32;

/// Decoded pairs, in order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Result<Query, BadQuery> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(MAX_PAIRS).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        });
        pairs.collect::<Option<Vec<_>>>().map(Query).ok_or_else(|| "invalid URL escape in the query".to_owned())
    }

    /// By name; of several with one name the last.
    pub(super) fn into_map(self) -> std::collections::BTreeMap<String, String> {
        self.0.into_iter().collect()
    }

    /// The value, unless it is empty or absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(key, _)| key == name)?;
        Some(&*pair.1).filter(|value| !value.is_empty())
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, BadQuery> {
        match self.text(name) {
            None => Ok(false),
            // Go's strconv.ParseBool
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
            Some(other) => Err(format!(
                "Error decoding boolean for '{name}': strconv.ParseBool: parsing {other:?}: invalid syntax"
            )),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, BadQuery> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse::<i64>() {
            // Negative offsets and limits are as absent.
            Ok(number) => Ok(usize::try_from(number).ok()),
            Err(_) => Err(format!("Error decoding int for '{name}': strconv.Atoi: parsing {text:?}: invalid syntax")),
        }
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_checked() {
        let query = Query::parse("a=1&b=%24G+x&c&limit=x&d=maybe&offset=-1").unwrap();
        assert_eq!(query.flag("a"), Ok(true));
        assert_eq!(query.text("b"), Some("$G x"));
        assert_eq!((query.text("c"), query.flag("c")), (None, Ok(false)));
        assert_eq!(query.number("offset"), Ok(None));
        // As stock says it.
        assert_eq!(
            query.number("limit"),
            Err("Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax".to_owned())
        );
        assert!(query.flag("d").is_err());
        assert!(Query::parse("a=%2").is_err());
        assert!(Query::parse("a=%ff").is_err());
    }
}
