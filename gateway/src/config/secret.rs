//! Texts that must not show up in logs.

use std::fmt;

/// A token, a seed: shown as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// A password as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// As it is.
    Plain(Secret),
    /// A bcrypt hash: `$2a$…`, `$2b$…`, `$2y$…`. Costs a helper thread some milliseconds or more.
    Bcrypt(Secret),
}

impl Password {
    /// Recognises a hash by its beginning.
    pub fn new(text: &str) -> Self {
        let hashed = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix));
        let secret = Secret::new(text);
        if hashed { Self::Bcrypt(secret) } else { Self::Plain(secret) }
    }
}
