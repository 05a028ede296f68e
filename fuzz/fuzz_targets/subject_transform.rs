//! Transforms, three lines of source, destination and subject: no panic; a result matches the filter that was promised.
#![no_main]

use libfuzzer_sys::fuzz_target;
use subject::Transform;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let (Some(source), Some(destination), Some(subject)) = (lines.next(), lines.next(), lines.next()) else { return };
    let Ok(transform) = Transform::parse(source, destination) else { return };
    let mut into = Vec::new();
    if subject::is_literal(subject.as_bytes()) && transform.apply(subject.as_bytes(), 1, &mut into) {
        assert!(transform.destination_filter().matches(&into));
    }
});
