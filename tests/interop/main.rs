//! Official clients against the real binaries.

mod scripts;
