//! The map of names against naive matchers of both worlds.

use proptest::prelude::*;

use crate::topic::{TopicFilter, filter_to_subjects, subject_to_topic, topic_to_subject};

/// Levels that collide where a map is not exact: every escaped character, and what escapes look like.
fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]{0,2}",
        4 => "[.stnrfdag*>$ \t\n\r\u{0C}\u{7F}ä]{0,4}",
        1 => Just("*".to_owned()),
        1 => Just(">".to_owned()),
        1 => Just("$x".to_owned()),
    ]
}

fn topic() -> impl Strategy<Value = String> {
    proptest::collection::vec(level(), 1..5).prop_map(|levels| levels.join("/"))
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level(), 2 => Just("+".to_owned())];
    (proptest::collection::vec(level, 0..5), any::<bool>()).prop_map(|(mut levels, all)| {
        if all || levels.is_empty() {
            levels.push("#".to_owned());
        }
        levels.join("/")
    })
}

/// MQTT 4.7, word for word.
fn mqtt_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let topic: Vec<_> = topic.split('/').collect();
    let filter: Vec<_> = filter.split('/').collect();
    for (index, level) in filter.iter().enumerate() {
        match (*level, topic.get(index)) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(found)) if level == *found => {}
            _ => return false,
        }
    }
    filter.len() == topic.len()
}

fn nats_matches(filter: &str, subject: &str) -> bool {
    let subject: Vec<_> = subject.split('.').collect();
    let filter: Vec<_> = filter.split('.').collect();
    for (index, token) in filter.iter().enumerate() {
        match (*token, subject.get(index)) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(found)) if token == *found => {}
            _ => return false,
        }
    }
    filter.len() == subject.len()
}

/// A literal subject as NATS accepts it in PUB.
fn is_subject(subject: &str) -> bool {
    !subject.contains(|character: char| " \t\r\n\u{0C}\0".contains(character))
        && subject.split('.').all(|token| !token.is_empty() && token != "*" && token != ">")
}

fn image(topic: &str) -> String {
    let mut subject = String::new();
    topic_to_subject(topic, &mut subject).unwrap();
    subject
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_topic_comes_back(topic in topic()) {
        prop_assume!(!topic.is_empty());
        let subject = image(&topic);
        prop_assert!(is_subject(&subject), "{subject:?}");
        let mut back = String::from("left over");
        subject_to_topic(&subject, &mut back).unwrap();
        prop_assert_eq!(back, topic);
    }

    #[test]
    fn a_filter_matches_as_its_images_do(filter in filter(), topic in topic()) {
        prop_assume!(!topic.is_empty() && !filter.is_empty());
        let images = filter_to_subjects(&filter).unwrap();
        let subject = image(&topic);
        let by_image = images.admits(&subject) && images.iter().any(|image| nats_matches(image, &subject));
        prop_assert_eq!(by_image, mqtt_matches(&filter, &topic), "{:?} {:?}", images, subject);
        // Never by both: a subscription to both filters would deliver twice.
        prop_assert!(images.iter().filter(|image| nats_matches(image, &subject)).count() <= 1);
    }

    #[test]
    fn a_filter_made_of_the_topic_matches(topic in topic(), wild in any::<u8>()) {
        prop_assume!(!topic.is_empty());
        let levels = topic.split('/').enumerate();
        let filter = levels.map(|(index, level)| if wild >> (index % 8) & 1 == 1 { "+" } else { level });
        let filter = filter.collect::<Vec<_>>().join("/");
        prop_assume!(!filter.is_empty() && TopicFilter::parse(&filter).is_ok_and(|parsed| parsed.share.is_none()));
        let images = filter_to_subjects(&filter).unwrap();
        let subject = image(&topic);
        let by_image = images.admits(&subject) && nats_matches(images.primary(), &subject);
        prop_assert_eq!(by_image, mqtt_matches(&filter, &topic));
    }

    #[test]
    fn any_subject_has_a_proper_topic_or_none(subject in "[ab/.#+*stgd]{0,9}") {
        let mut topic = String::new();
        if subject_to_topic(&subject, &mut topic).is_ok() {
            let mut again = String::new();
            prop_assert!(topic_to_subject(&topic, &mut again).is_ok());
        }
    }
}

#[test]
fn ten_thousand_levels_are_no_matter() {
    let topic = "/".repeat(10_000);
    let mut back = String::new();
    subject_to_topic(&image(&topic), &mut back).unwrap();
    assert_eq!(back, topic);
    assert_eq!(filter_to_subjects(&format!("{topic}#")).unwrap().iter().count(), 2);
}

#[test]
fn the_longest_topic_comes_back_and_one_longer_is_refused() {
    let topic = ".".repeat(65_535);
    let mut back = String::new();
    subject_to_topic(&image(&topic), &mut back).unwrap();
    assert_eq!(back, topic);
    assert!(topic_to_subject(&format!("{topic}."), &mut String::new()).is_err());
    assert!(subject_to_topic(&"a".repeat(65_536), &mut back).is_err());
}
