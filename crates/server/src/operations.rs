//! What the running process does for its own commands (`edge-gateway forward adopt`, `store export`), beside showing its status.
//!
//! Asked by `POST` on the socket in the store folder, and nowhere else: the monitoring port only shows.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;

use crate::monitor::Page;

/// An answer on its way; `None`: there is no such operation.
pub type OperationAnswer = Pin<Box<dyn Future<Output = Option<Page>>>>;

/// The operations; implemented by the gateway.
pub trait Operations: Debug {
    /// Begins the operation at a path such as `/forward/adopt`, with its decoded arguments.
    fn call(&self, path: &str, arguments: &BTreeMap<String, String>) -> OperationAnswer;
}
