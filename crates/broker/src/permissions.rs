//! What a user may publish and subscribe to, and which requests it may answer beside that.
//!
//! Rules as nats-server's: nothing said about a side allows everything on it, `deny` wins over `allow`, a filter is subscribed to only when
//! `allow` covers it whole and `deny` does not; one that merely overlaps `deny` is granted, and what is denied is left out message by message.
//! `allow_responses` turns the blanket permission to publish off, and permits the reply subjects of what was delivered for a while.
//!
//! Cost: a connection without permissions has no [`Allowance`]. One that has is judged when its subject changes; the plan that it remembers
//! is for a subject that it may publish to, so a run of publishes to one subject costs nothing. Not here: who a connection is
//! ([`crate::authorization`]), what a hub lets a link do (`leaf::deny`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nats_proto::refusal::Refusal;
use subject::Filter;

use crate::authorization::Authorization;
use crate::broker::Broker;
use crate::connection::{Connection, Kind};
use crate::effect::Effect;
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;

/// Most requests that one client may still answer; those that end soonest are forgotten first.
const MAX_ANSWERS: usize = 4096;
/// Most bytes of their reply subjects.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// What a user may do. The default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects it may publish to.
    pub publish: Rule<Filter>,
    /// Filters it may subscribe to.
    pub subscribe: Rule<Subscribable>,
    /// `allow_responses`.
    pub responses: Option<Responses>,
}

/// One side of [`Permissions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<T> {
    /// Only these; `None`: all.
    pub allow: Option<Vec<T>>,
    /// Never these.
    pub deny: Vec<T>,
}

impl<T> Default for Rule<T> {
    fn default() -> Rule<T> {
        Rule { allow: None, deny: Vec::new() }
    }
}

/// `"subject"` or `"subject queue"`, where the queue may have wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribable {
    /// Which subjects.
    pub subject: Filter,
    /// Only as a member of such a group; `None`: with any and without.
    pub queue: Option<Filter>,
}

/// How often and how long a request may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responses {
    /// Messages for one reply subject; `None`: any number.
    pub max_messages: Option<u64>,
    /// From the delivery of the request.
    pub expires: Duration,
}

impl Permissions {
    /// May a message be published there, whatever was asked before?
    #[must_use]
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        let matches = |list: &[Filter]| list.iter().any(|filter| filter.matches(subject));
        let allowed = match &self.publish.allow {
            Some(allow) => matches(allow),
            None => self.responses.is_none(),
        };
        allowed && !matches(&self.publish.deny)
    }

    /// May this be subscribed to?
    #[must_use]
    pub fn may_subscribe(&self, filter: &Filter, queue: Option<&[u8]>) -> bool {
        let allowed = self.subscribe.allow.as_deref().is_none_or(|allow| {
            let found = Found::among(allow, filter, queue);
            // Where groups are named, a member must be in one of them.
            if found.groups { found.group } else { found.plain }
        });
        let denied = Found::among(&self.subscribe.deny, filter, queue);
        allowed && !denied.plain && !denied.group
    }

    /// Is a message on this subject kept from its subscriptions, which were granted because they are for more than that?
    #[must_use]
    pub fn hides(&self, subject: &[u8]) -> bool {
        self.subscribe.deny.iter().any(|denied| denied.queue.is_none() && denied.subject.matches(subject))
    }
}

/// Which entries of a list concern a subscription.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// One without a queue.
    plain: bool,
    /// One with a queue, and the subscription has one.
    groups: bool,
    /// One with a queue that is its own.
    group: bool,
}

impl Found {
    fn among(list: &[Subscribable], filter: &Filter, queue: Option<&[u8]>) -> Found {
        let mut found = Found::default();
        for entry in list.iter().filter(|entry| entry.subject.covers(filter)) {
            match (&entry.queue, queue) {
                (None, _) => found.plain = true,
                (Some(_), None) => {}
                (Some(wanted), Some(queue)) => {
                    found.groups = true;
                    found.group |= wanted.matches(queue);
                }
            }
        }
        found
    }
}

/// What one connection may.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(crate) permissions: Arc<Permissions>,
    /// By reply subject.
    answers: BTreeMap<Box<[u8]>, Answers>,
    /// Bytes of the reply subjects.
    bytes: usize,
    /// The operator was told of a refusal.
    told: bool,
}

/// Answers that a request may still get.
#[derive(Clone, Copy, Debug)]
struct Answers {
    left: u64,
    /// Monotonic microseconds.
    until: u64,
}

impl Allowance {
    fn new(permissions: Arc<Permissions>) -> Allowance {
        Allowance { permissions, answers: BTreeMap::new(), bytes: 0, told: false }
    }

    /// A request was delivered: it may be answered.
    fn note_request(&mut self, now: Now, reply: &[u8]) {
        let Some(responses) = self.permissions.responses else { return };
        let answers = Answers { left: responses.max_messages.unwrap_or(u64::MAX), until: now.after(responses.expires) };
        if let Some(known) = self.answers.get_mut(reply) {
            *known = answers;
            return;
        }
        if self.answers.len() >= MAX_ANSWERS || self.bytes + reply.len() > MAX_ANSWER_BYTES {
            self.forget_old(now);
        }
        self.bytes += reply.len();
        self.answers.insert(reply.into(), answers);
    }

    /// What is over, and if that is not enough the half that ends sooner.
    fn forget_old(&mut self, now: Now) {
        self.answers.retain(|_, answers| answers.until >= now.micros);
        if self.answers.len() >= MAX_ANSWERS / 2 || self.subject_bytes() > MAX_ANSWER_BYTES / 2 {
            let mut ends: Vec<u64> = self.answers.values().map(|answers| answers.until).collect();
            ends.sort_unstable();
            let middle = ends.get(ends.len() / 2).copied().unwrap_or(0);
            // With many that end at the same time the first by name go.
            let mut excess = self.answers.len() / 2;
            self.answers.retain(|_, answers| {
                let goes = excess > 0 && answers.until <= middle;
                excess -= usize::from(goes);
                !goes
            });
        }
        self.bytes = self.subject_bytes();
        if self.bytes > MAX_ANSWER_BYTES / 2 {
            self.answers.clear();
            self.bytes = 0;
        }
    }

    fn subject_bytes(&self) -> usize {
        self.answers.keys().map(|reply| reply.len()).sum()
    }

    /// May this be published now?
    fn takes(&self, now: Now, subject: &[u8]) -> bool {
        let in_time = |answers: &Answers| answers.until >= now.micros;
        self.permissions.may_publish(subject) || self.answers.get(subject).is_some_and(in_time)
    }

    /// It was published; if it was an answer, there is one less to give.
    fn count_answer(&mut self, subject: &[u8]) {
        if self.permissions.may_publish(subject) {
            return;
        }
        let Some(answers) = self.answers.get_mut(subject) else { return };
        answers.left = answers.left.saturating_sub(1);
        if answers.left == 0 {
            self.answers.remove(subject);
            self.bytes -= subject.len();
        }
    }
}

impl Authorization {
    /// What a user of that index may; `None`: everything.
    pub(crate) fn permissions_of(&self, index: Option<usize>) -> Option<Arc<Permissions>> {
        match self {
            Authorization::Users { users, .. } => users.get(index?)?.permissions.clone(),
            _ => None,
        }
    }

    /// Does any user have permissions that hide messages?
    pub(crate) fn is_restrictive(&self) -> bool {
        let hides = |user: &crate::User| user.permissions.as_ref().is_some_and(|it| !it.subscribe.deny.is_empty());
        matches!(self, Authorization::Users { users, .. } if users.iter().any(hides))
    }

    /// The same by name: indexes change with a reload.
    pub(crate) fn permissions_of_name(&self, name: Option<&str>) -> Option<Arc<Permissions>> {
        match self {
            Authorization::Users { users, no_auth_user } => {
                let index = name.map_or(*no_auth_user, |name| users.iter().position(|user| &*user.name == name));
                self.permissions_of(index)
            }
            _ => None,
        }
    }
}

impl Broker {
    /// May this connection not publish there? To be asked before its plan is made.
    #[inline]
    pub(crate) fn is_publish_denied(&self, now: Now, id: ConnectionId, subject: &[u8]) -> bool {
        match self.connections.at(id.slot()) {
            Some(connection) if connection.allowance.is_some() => !takes(connection, now, subject),
            _ => false,
        }
    }

    /// A publish that was not denied is done, and did not have to wait.
    #[inline]
    pub(crate) fn count_answer(&mut self, id: ConnectionId, subject: &[u8]) {
        if self.restricted == 0 {
            return;
        }
        let allowance = self.connections.entry_mut(id).and_then(|connection| connection.allowance.as_deref_mut());
        if let Some(allowance) = allowance.filter(|allowance| !allowance.answers.is_empty()) {
            allowance.count_answer(subject);
        }
    }

    /// May this connection subscribe to it?
    pub(crate) fn may_subscribe(&self, id: ConnectionId, filter: &Filter, queue: Option<&[u8]>) -> bool {
        let allowance = self.connections.entry(id).and_then(|connection| connection.allowance.as_deref());
        allowance.is_none_or(|allowance| allowance.permissions.may_subscribe(filter, queue))
    }

    /// Tells the operator of the first refusal of a connection.
    pub(crate) fn warn_of_denial(&mut self, id: ConnectionId, out: &mut Outbox) {
        let connection = self.connections.entry_mut(id);
        let allowance = connection.and_then(|connection| connection.allowance.as_deref_mut());
        if let Some(allowance) = allowance.filter(|allowance| !allowance.told) {
            allowance.told = true;
            out.effect(Effect::Warn { id, text: "client was refused a subject by its permissions" });
        }
    }

    /// A connection is somebody (else): what it subscribed to and may not any more ends.
    pub(crate) fn set_permissions(&mut self, id: ConnectionId, new: Option<Arc<Permissions>>, out: &mut Outbox) {
        let Some(connection) = self.connections.entry_mut(id) else { return };
        let old = connection.allowance.as_ref().map(|allowance| &allowance.permissions);
        if old == new.as_ref() {
            return;
        }
        self.restricted = self.restricted + usize::from(new.is_some()) - usize::from(old.is_some());
        connection.memo = std::rc::Weak::new();
        connection.allowance = new.map(|permissions| Box::new(Allowance::new(permissions)));
        let subscriptions = match &connection.kind {
            Kind::Nats(client) => client.subscriptions.ids(),
            // An MQTT client has none when it is told who it is, and is closed when that changes.
            Kind::Mqtt(_) | Kind::Leaf(_) => Vec::new(),
        };
        if subscriptions.is_empty() {
            return;
        }
        self.plans.forget_all();
        for subscription in subscriptions {
            let Some(entry) = self.subscriptions.entry(subscription) else { continue };
            if self.may_subscribe(id, &entry.filter, entry.queue.as_deref()) {
                continue;
            }
            let (subject, queue) = (entry.filter.as_str().as_bytes(), entry.queue.as_deref());
            let mut bytes = Vec::with_capacity(128);
            Refusal::SubscriptionRevoked { subject, queue, sid: &entry.token }.encode(&mut bytes);
            out.append(id, &bytes);
            self.unsubscribe(subscription);
        }
    }

    /// The message was delivered to connections that may answer it.
    pub(crate) fn note_requests(&mut self, now: Now, reply: &[u8]) {
        while let Some(slot) = self.asked.pop() {
            let connection = self.connections.at_mut(slot as usize);
            if let Some(allowance) = connection.and_then(|connection| connection.allowance.as_deref_mut())
                && !reply.is_empty()
            {
                allowance.note_request(now, reply);
            }
        }
    }
}

#[cold]
fn takes(connection: &Connection, now: Now, subject: &[u8]) -> bool {
    // What it remembers was judged: see `plan_from_cache`.
    if connection.memo.upgrade().is_some_and(|plan| plan.is_valid_for(connection.account, subject)) {
        return true;
    }
    connection.allowance.as_deref().is_none_or(|allowance| allowance.takes(now, subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Vec<Filter> {
        texts.iter().map(|text| Filter::parse(text).unwrap()).collect()
    }

    fn subscribables(texts: &[&str]) -> Vec<Subscribable> {
        let one = |text: &&str| {
            let (subject, queue) =
                text.split_once(' ').map_or((*text, None), |(subject, queue)| (subject, Some(queue)));
            Subscribable {
                subject: Filter::parse(subject).unwrap(),
                queue: queue.map(|queue| Filter::parse(queue).unwrap()),
            }
        };
        texts.iter().map(one).collect()
    }

    fn subscribe(allow: Option<&[&str]>, deny: &[&str]) -> Permissions {
        let subscribe = Rule { allow: allow.map(subscribables), deny: subscribables(deny) };
        Permissions { subscribe, ..Permissions::default() }
    }

    #[track_caller]
    fn check(permissions: &Permissions, text: &str, queue: Option<&str>, expected: bool) {
        let may = permissions.may_subscribe(&Filter::parse(text).unwrap(), queue.map(str::as_bytes));
        assert_eq!(may, expected, "{text} {queue:?}");
    }

    #[test]
    fn a_filter_must_be_covered_by_allow_and_not_by_deny() {
        let permissions = subscribe(Some(&["a.*", "b.>"]), &["a.secret", "b.c.>"]);
        for (text, expected) in [
            ("a.x", true),
            ("a.*", true),
            ("a.>", false),
            ("b.>", true),
            ("b", false),
            (">", false),
            ("a.secret", false),
            ("b.c.d", false),
            ("b.c.>", false),
            ("c", false),
        ] {
            check(&permissions, text, None, expected);
            check(&permissions, text, Some("q"), expected);
        }
        assert!(permissions.hides(b"a.secret") && permissions.hides(b"b.c.d") && !permissions.hides(b"a.x"));
    }

    #[test]
    fn groups_that_are_named_must_be_joined() {
        let permissions = subscribe(Some(&["a v1", "a v2.*", "b", "b only"]), &["> *.prod"]);
        for (text, queue, expected) in [
            ("a", None, false),
            ("a", Some("v1"), true),
            ("a", Some("v2.x"), true),
            ("a", Some("v3"), false),
            ("b", None, true),
            ("b", Some("only"), true),
            ("b", Some("other"), false),
            ("a", Some("v2.prod"), false),
        ] {
            check(&permissions, text, queue, expected);
        }
        assert!(!permissions.hides(b"a"), "denied groups hide nothing from others");
    }

    #[test]
    fn allow_responses_turns_the_blanket_permission_off() {
        let responses = Some(Responses { max_messages: Some(2), expires: Duration::from_secs(1) });
        let permissions = Permissions { responses, ..Permissions::default() };
        let mut allowance = Allowance::new(Arc::new(permissions));
        let at = |micros| Now { micros, wall_ns: 0 };
        assert!(!allowance.takes(at(0), b"r"));
        allowance.note_request(at(0), b"r");
        assert!(allowance.takes(at(1), b"r") && allowance.takes(at(1_000_000), b"r"), "asking counts nothing");
        assert!(!allowance.takes(at(1_000_001), b"r"), "too late");
        allowance.count_answer(b"r");
        assert!(allowance.takes(at(1), b"r"));
        allowance.count_answer(b"r");
        assert!(!allowance.takes(at(2), b"r"), "twice is enough");
        assert_eq!((allowance.answers.len(), allowance.bytes), (0, 0));
        let listed = Permissions {
            publish: Rule { allow: Some(filters(&["a.>"])), deny: filters(&["a.no"]) },
            responses,
            ..Permissions::default()
        };
        assert!(listed.may_publish(b"a.b") && !listed.may_publish(b"a.no") && !listed.may_publish(b"b"));
    }

    #[test]
    fn what_may_be_answered_is_bounded_and_the_newest_stay() {
        let responses = Some(Responses { max_messages: None, expires: Duration::from_secs(1) });
        let permissions = Permissions { responses, ..Permissions::default() };
        let mut allowance = Allowance::new(Arc::new(permissions));
        for micros in 0..3 * MAX_ANSWERS as u64 {
            let now = Now { micros, wall_ns: 0 };
            allowance.note_request(now, format!("r.{micros}").as_bytes());
            assert!(allowance.takes(now, format!("r.{micros}").as_bytes()));
            assert!(allowance.answers.len() <= MAX_ANSWERS);
        }
        let mut allowance = Allowance::new(Arc::clone(&allowance.permissions));
        for number in 0..1000 {
            allowance.note_request(Now::default(), format!("{number}.{}", "r".repeat(4000)).as_bytes());
            assert!(allowance.bytes <= MAX_ANSWER_BYTES && allowance.bytes == allowance.subject_bytes());
        }
    }
}
