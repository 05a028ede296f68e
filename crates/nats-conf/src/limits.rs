//! What bounds a configuration: far above any real one, far below what would hurt.

/// Bytes of text, summed over the file, its includes and the environment variables it uses.
pub const MAX_INPUT_BYTES: usize = 16 << 20;

/// Maps and arrays inside one another, also when a variable or an include brought them.
pub const MAX_DEPTH: usize = 64;

/// Files including files.
pub const MAX_INCLUDE_DEPTH: usize = 16;

/// Values that references to variables may copy: without it twenty lines of `b: [$a, $a]` are a million values.
pub const MAX_COPIED_VALUES: usize = 1 << 20;

/// Bytes of keys and strings that references to variables may copy.
pub const MAX_COPIED_BYTES: usize = 16 << 20;
