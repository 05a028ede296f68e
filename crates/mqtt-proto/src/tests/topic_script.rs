//! Scripts of names: `topic T` to a subject and back, `subject S` to a topic, `filter F` to subject filters.

use std::error::Error;

use goldenscript::{Command, Context, Runner};

use crate::topic::{TopicFilter, is_reserved, subject_to_topic, topic_to_subject};

struct TopicRunner;

impl Runner for TopicRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let name = args.next_pos().ok_or("no name")?;
        args.reject_next()?;
        match command.name.as_str() {
            "topic" => to_subject(name),
            "subject" => Ok(to_topic(name)),
            "filter" => Ok(to_filters(name)),
            other => Err(format!("no command: {other}").into()),
        }
    }
}

fn to_subject(topic: &str) -> Result<String, Box<dyn Error>> {
    let mut subject = String::new();
    if let Err(error) = topic_to_subject(topic, &mut subject) {
        return Ok(format!("refused: {error}\n"));
    }
    let mut back = String::new();
    subject_to_topic(&subject, &mut back)?;
    if back != topic {
        return Err(format!("{topic:?} comes back as {back:?}").into());
    }
    let reserved = if is_reserved(topic) { " reserved" } else { "" };
    Ok(format!("{subject}{reserved}\n"))
}

fn to_topic(subject: &str) -> String {
    let mut topic = String::new();
    match subject_to_topic(subject, &mut topic) {
        Ok(()) => format!("{topic:?}\n"),
        Err(error) => format!("{error}\n"),
    }
}

fn to_filters(filter: &str) -> String {
    let parsed = match TopicFilter::parse(filter) {
        Ok(parsed) => parsed,
        Err(error) => return format!("refused: {error}\n"),
    };
    let subjects = parsed.to_subjects();
    let mut text = subjects.iter().collect::<Vec<_>>().join("  and  ");
    if subjects.hides_dollar() {
        text.push_str("  (not $…)");
    }
    if parsed.share.is_some() {
        let mut queue = String::new();
        parsed.put_queue_group(&mut queue);
        text.push_str(&format!("  queue {queue}"));
    }
    text.push('\n');
    text
}

#[test]
fn scripts() {
    super::run_scripts("topic", || TopicRunner);
}
