//! Any text is a map or a placed error, within the limits, and its includes and variables are no way around them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nats_conf::{Included, Sources, canonical_json, parse};

fuzz_target!(|text: &str| {
    // The text includes and refers to itself: the shortest way to a cycle.
    let environment = |name: &str| (name.len() == 1).then(|| text.to_owned());
    let load = |path: &str, _including: &str| Ok(Included { file: path.to_owned(), text: text.to_owned() });
    if let Ok(map) = parse("F", text, Sources { environment: &environment, load: &load }) {
        let json = canonical_json(&map);
        assert!(json.ends_with("}\n"));
    }
});
