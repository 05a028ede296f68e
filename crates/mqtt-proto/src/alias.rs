//! Topic aliases of MQTT 5: numbers that stand for topics, per direction and for one connection only.
//! `[MQTT-3.3.2-7]`
//!
//! Both tables are empty, and allocate nothing, until the first alias is used.

use std::collections::BTreeMap;

use crate::error::DecodeError;

/// The aliases a client has set, at most as many as we advertised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboundAliases {
    topics: Vec<Option<Box<str>>>,
}

impl InboundAliases {
    /// None set.
    pub const fn new() -> Self {
        Self { topics: Vec::new() }
    }

    /// The topic of a PUBLISH with this topic and alias; `maximum` is what we advertised.
    ///
    /// An alias above it is refused with 0x94 `[MQTT-3.3.2-9]`, one never set with 0x82.
    pub fn resolve<'a>(&'a mut self, topic: &'a str, alias: u16, maximum: u16) -> Result<&'a str, DecodeError> {
        if alias == 0 || alias > maximum {
            return Err(DecodeError::TopicAlias("it is 0 or above the advertised maximum"));
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = self.topics.get(index).and_then(|topic| topic.as_deref());
            return known.ok_or(DecodeError::Protocol("a topic alias that was never set"));
        }
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        self.topics[index] = Some(topic.into());
        Ok(topic)
    }
}

/// The aliases we have set at a client, at most as many as it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundAliases {
    aliases: BTreeMap<Box<str>, u16>,
}

/// How the topic of an outgoing PUBLISH is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundTopic {
    /// The topic alone.
    Plain,
    /// The topic and this alias, which stands for it from now on.
    Set(u16),
    /// An empty topic and this alias.
    Known(u16),
}

impl OutboundAliases {
    /// None set.
    pub const fn new() -> Self {
        Self { aliases: BTreeMap::new() }
    }

    /// How to write this topic. First come, first served: once all are set, other topics are written plainly.
    /// `client_maximum` is the client's; 0: never an alias. `[MQTT-3.1.2-26]`, `[MQTT-3.1.2-27]`
    pub fn topic(&mut self, topic: &str, client_maximum: u16) -> OutboundTopic {
        if let Some(&alias) = self.aliases.get(topic) {
            return OutboundTopic::Known(alias);
        }
        if self.aliases.len() >= usize::from(client_maximum) {
            return OutboundTopic::Plain;
        }
        let alias = self.aliases.len() as u16 + 1;
        self.aliases.insert(topic.into(), alias);
        OutboundTopic::Set(alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_sets_and_uses_aliases() {
        let mut aliases = InboundAliases::new();
        assert!(matches!(aliases.resolve("", 2, 16), Err(DecodeError::Protocol(_))));
        assert_eq!(aliases.resolve("a", 2, 16), Ok("a"));
        assert_eq!(aliases.resolve("", 2, 16), Ok("a"));
        assert_eq!(aliases.resolve("b", 2, 16), Ok("b"));
        assert_eq!(aliases.resolve("", 2, 16), Ok("b"));
        assert!(matches!(aliases.resolve("", 1, 16), Err(DecodeError::Protocol(_))));
        assert!(matches!(aliases.resolve("a", 17, 16), Err(DecodeError::TopicAlias(_))));
        assert!(matches!(aliases.resolve("a", 1, 0), Err(DecodeError::TopicAlias(_))));
    }

    #[test]
    fn a_client_is_set_no_more_than_it_takes() {
        let mut aliases = OutboundAliases::new();
        assert_eq!(aliases.topic("a", 0), OutboundTopic::Plain);
        assert_eq!(aliases.topic("a", 1), OutboundTopic::Set(1));
        assert_eq!(aliases.topic("b", 1), OutboundTopic::Plain);
        assert_eq!(aliases.topic("a", 1), OutboundTopic::Known(1));
    }
}
