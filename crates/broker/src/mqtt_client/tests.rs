//! Scripts follow.
