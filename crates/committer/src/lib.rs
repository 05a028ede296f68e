//! Takes the commands that wait, applies them, commits once, releases what waited.
