//! What must not cross a link: the JetStream guards of every stock server, and the hub's permissions.
//!
//! Measured with nats-server 2.15.1 and 2.9.10, by hand-written leafs:
//!
//! - On every link of a user account a server denies `$JS.API.>`, `$KV.>` and `$OBJ.>` in both directions, whatever the domains, and does not
//!   send what asks its own domain, `$JS.<own domain>.API.>`.
//! - It enforces that when it sends, not when it receives: a hub answers a request on the bare API (and announces `$JS.API.>`), and stores a
//!   value that comes on `$KV.`. So we apply the guards in both directions, or a client's request would be answered twice. Only the questions
//!   of a forward to a hub without a domain use the bare API.
//! - Interest in a literal of a guarded subject, or in one outside the hub's `import`, makes the hub close the link. A wider wildcard it
//!   accepts, and withholds what does not belong. So literals are not announced (a bucket's watcher would cut the link), wildcards are.
//! - A message outside the hub's `export` makes it close the link.

use subject::Filter;

/// Subjects whose traffic is a server's own business: `$JS.API.>`, `$KV.>`, `$OBJ.>`.
const OWN_BUSINESS: [&[u8]; 3] = [b"$JS.API.", b"$KV.", b"$OBJ."];

/// `import` and `export` of the hub's INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkPermissions {
    /// What we may receive: the hub user's subscribe permissions. Empty: everything.
    pub import_allow: Vec<Filter>,
    /// What we may not receive.
    pub import_deny: Vec<Filter>,
    /// What we may send: the hub user's publish permissions. Empty: everything.
    pub export_allow: Vec<Filter>,
    /// What we may not send.
    pub export_deny: Vec<Filter>,
}

/// Is this subject (or filter) some server's own business?
pub(super) fn is_own_business(subject: &[u8]) -> bool {
    OWN_BUSINESS.iter().any(|prefix| subject.starts_with(prefix))
}

/// Is it below `$JS.<domain>.API.`?
pub(super) fn is_api_of(domain: Option<&str>, subject: &[u8]) -> bool {
    let Some(rest) = subject.strip_prefix(b"$JS.") else { return false };
    domain.is_some_and(|domain| rest.strip_prefix(domain.as_bytes()).is_some_and(|rest| rest.starts_with(b".API.")))
}

/// Replies that a hub never checks: inboxes of service imports, acknowledgements, gateways.
fn is_never_checked(subject: &[u8]) -> bool {
    subject.starts_with(b"_R_.") || subject.starts_with(b"$JS.ACK.") || subject.starts_with(b"_GR_.")
}

impl LinkPermissions {
    /// May a message on this subject be sent? The hub closes the link when it may not.
    pub(super) fn may_send(&self, subject: &[u8]) -> bool {
        let allowed = self.export_allow.is_empty() || self.export_allow.iter().any(|filter| filter.matches(subject));
        is_never_checked(subject) || (allowed && !self.export_deny.iter().any(|filter| filter.matches(subject)))
    }

    /// May this interest be announced? A literal (or narrower filter) outside `allow` or inside `deny` closes the link; a wider one is accepted and
    /// pruned by the hub.
    pub(super) fn may_announce(&self, filter: &Filter) -> bool {
        if filter.as_str().starts_with("$LDS.") {
            return true;
        }
        let overlaps = |list: &[Filter]| list.iter().any(|other| other.overlaps(filter));
        let covered = |list: &[Filter]| list.iter().any(|other| other.covers(filter));
        (self.import_allow.is_empty() || overlaps(&self.import_allow)) && !covered(&self.import_deny)
    }

    /// Is a message on this subject to be taken?
    pub(super) fn may_receive(&self, subject: &[u8]) -> bool {
        !self.import_deny.iter().any(|filter| filter.matches(subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Vec<Filter> {
        texts.iter().map(|text| Filter::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_servers_own_business_is_known_by_its_first_tokens() {
        for subject in ["$JS.API.INFO", "$KV.bucket.key", "$OBJ.b.C.x", "$KV.>"] {
            assert!(is_own_business(subject.as_bytes()), "{subject}");
        }
        for subject in ["$JS.hub.API.INFO", "$JS.ACK.S.C.1", "$KVX.a", ">", "*.API.>"] {
            assert!(!is_own_business(subject.as_bytes()), "{subject}");
        }
        assert!(is_api_of(Some("edge"), b"$JS.edge.API.INFO"));
        assert!(!is_api_of(Some("edge"), b"$JS.edge2.API.INFO"));
        assert!(!is_api_of(None, b"$JS.edge.API.INFO"));
    }

    #[test]
    fn interest_that_would_close_the_link_is_not_announced() {
        let permissions = LinkPermissions {
            import_allow: filters(&["down.>"]),
            import_deny: filters(&["down.secret.>"]),
            export_allow: filters(&["up.*"]),
            export_deny: filters(&["up.no"]),
        };
        let may = |text: &str| permissions.may_announce(&Filter::parse(text).unwrap());
        assert!(may("down.a") && may(">") && may("down.>") && may("$LDS.x"));
        assert!(!may("other.a") && !may("down.secret.a") && !may("down.secret.*"));
        assert!(permissions.may_send(b"up.a") && permissions.may_send(b"_R_.x.y"));
        assert!(!permissions.may_send(b"up.no") && !permissions.may_send(b"up.a.b"));
    }
}
