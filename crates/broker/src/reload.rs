//! New settings while clients are connected.
//!
//! Limits count from the next message; no new INFO is sent for them. Who could not log in any more is told so and closed, everybody else is
//! untouched, as with stock; what a user may do changes at once, and subscriptions that are not allowed any more end with a word. MQTT
//! clients, whose names are not kept, are all closed when their rule changed, and judged anew as they come back. Server name, listeners, JetStream, leaf links and the memory budget stay as they were at the start.

use crate::authorization::Authorization;
use crate::broker::Broker;
use crate::connection::Kind;
use crate::effect::CloseReason;
use crate::outbox::Outbox;
use crate::settings::Settings;

impl Broker {
    /// Takes what may change over from `new`.
    pub fn reload(&mut self, new: Settings, out: &mut Outbox) {
        let old = self.settings.authorization.clone();
        let old_mqtt = self.settings.mqtt.authorization.clone();
        let settings = &mut self.settings;
        settings.authorization = new.authorization;
        settings.max_payload = new.max_payload;
        settings.max_control_line = new.max_control_line;
        settings.max_connections = new.max_connections;
        settings.max_subscriptions = new.max_subscriptions;
        settings.ping_interval = new.ping_interval;
        settings.ping_max = new.ping_max;
        settings.auth_timeout = new.auth_timeout;
        settings.mqtt = new.mqtt;
        self.limits.max_payload = settings.max_payload;
        self.limits.max_control_line = settings.max_control_line;
        self.close_unwelcome(&old, old_mqtt.as_ref(), out);
        self.change_permissions(out);
    }

    /// Those who may stay may do what the new settings say.
    fn change_permissions(&mut self, out: &mut Outbox) {
        let mut changed = Vec::new();
        for connection in self.connections.iter().filter(|connection| !connection.closing) {
            let Kind::Nats(client) = &connection.kind else { continue };
            if client.is_ready() {
                let user = client.about.as_ref().and_then(|about| about.user.as_deref());
                changed.push((connection.id, self.settings.authorization.permissions_of_name(user)));
            }
        }
        for (id, permissions) in changed {
            self.set_permissions(id, permissions, out);
        }
        // Stored sessions are judged by their owners.
        self.plans.forget_all();
    }

    fn close_unwelcome(&mut self, old: &Authorization, old_mqtt: Option<&Authorization>, out: &mut Outbox) {
        let new = &self.settings.authorization;
        let mqtt_changed = self.settings.mqtt.authorization.as_ref().unwrap_or(new) != old_mqtt.unwrap_or(old);
        let unwelcome = |kind: &Kind| match kind {
            Kind::Nats(client) => {
                let user = client.about.as_ref().and_then(|about| about.user.as_deref());
                !new.still_admits(old, user)
            }
            Kind::Mqtt(_) => mqtt_changed,
            Kind::Leaf(_) => false,
        };
        let ids: Vec<_> = self.connections.iter().filter(|it| unwelcome(&it.kind)).map(|it| it.id).collect();
        for id in ids {
            if matches!(self.connections.entry(id).map(|entry| &entry.kind), Some(Kind::Nats(_))) {
                out.append(id, b"-ERR 'Authorization Violation'\r\n");
            }
            self.close(id, CloseReason::AuthenticationFailure, out);
        }
    }
}

impl Authorization {
    /// Would a client that came in under `old` as `user` come in with the same words?
    fn still_admits(&self, old: &Authorization, user: Option<&str>) -> bool {
        match (self, old) {
            (Authorization::None, _) => true,
            (Authorization::Token(new), Authorization::Token(old)) => new == old,
            (Authorization::Users { users, no_auth_user }, Authorization::Users { users: before, .. }) => match user {
                None => no_auth_user.is_some(),
                Some(name) => {
                    let secret = |list: &[crate::User]| {
                        list.iter().find(|user| &*user.name == name).map(|user| user.secret.clone())
                    };
                    secret(users).is_some() && secret(users) == secret(before)
                }
            },
            (Authorization::Users { no_auth_user, .. }, _) => user.is_none() && no_auth_user.is_some(),
            (Authorization::Token(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secret, User};

    fn users(list: &[(&str, &str)], no_auth_user: Option<usize>) -> Authorization {
        let users = list.iter().map(|(name, word)| User::new(name, Secret::new(word))).collect();
        Authorization::Users { users, no_auth_user }
    }

    #[test]
    fn who_could_not_log_in_any_more_is_unwelcome() {
        let old = users(&[("a", "1"), ("b", "2")], None);
        let new = users(&[("b", "2"), ("a", "changed")], None);
        assert!(new.still_admits(&old, Some("b")));
        assert!(!new.still_admits(&old, Some("a")), "its password changed");
        assert!(!users(&[], None).still_admits(&old, Some("b")), "it is gone");
        assert!(!new.still_admits(&Authorization::None, None));
        assert!(Authorization::None.still_admits(&old, Some("a")));
        assert!(users(&[("b", "2")], Some(0)).still_admits(&Authorization::None, None));
        let token = |word| Authorization::Token(Secret::new(word));
        assert!(token("x").still_admits(&token("x"), None) && !token("y").still_admits(&token("x"), None));
    }
}
