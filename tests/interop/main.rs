//! Official clients against the real binaries.
