//! The JetStream API's errors: one table of `code`, `err_code` and text, after the public error list of nats-server.

/// An error as the API answers it. The text may hold a value (`{…}` of the table, filled in).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP-like class.
    pub code: u16,
    /// The number clients compare.
    pub err_code: u16,
    /// The text, complete.
    pub description: std::borrow::Cow<'static, str>,
}
