//! What a declared consumer says besides the usual: how it sends by itself, and who of those that pull comes first.

use std::time::Duration;

use nats_conf::{Block, Field, Report};
use subject::Filter;

use super::limits::{positive, set};
use super::streams::{Consumer, flag, text};

/// Heartbeats that stock takes.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);
/// Fields that only a consumer with a `deliver_subject` has.
const OF_PUSH: [&str; 4] = ["deliver_group", "flow_control", "idle_heartbeat", "rate_limit_bps"];

/// How a consumer sends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// `deliver_subject`.
    pub subject: String,
    /// `deliver_group`: the queue group that shares its messages. Default: none.
    pub group: Option<String>,
    /// `flow_control`. Default: false; needs `idle_heartbeat`.
    pub flow_control: bool,
    /// `idle_heartbeat`, at least 100 ms. Default: none.
    pub heartbeat: Option<Duration>,
    /// `rate_limit_bps`. Default: none.
    pub rate_limit: Option<u64>,
}

/// Groups among those that pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priority {
    /// `priority_groups`.
    pub groups: Vec<String>,
    /// `priority_policy`.
    pub policy: PriorityPolicy,
    /// `priority_timeout` of a pinned client. Default: 2 minutes.
    pub timeout: Option<Duration>,
}

/// Who gets messages first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorityPolicy {
    /// `overflow`: who named a threshold only beyond it.
    Overflow,
    /// `pinned_client`: one, until it goes silent.
    PinnedClient,
    /// `prioritized`: the lowest number.
    Prioritized,
}

pub(super) fn read_push(block: &mut Block<'_>, report: &mut Report) -> Option<Push> {
    let Some(field) = block.field(&["deliver_subject"]) else {
        for name in OF_PUSH {
            if let Some(field) = block.field(&[name]) {
                report.error(field.position, format!("field {name:?} needs \"deliver_subject\""));
            }
        }
        return None;
    };
    let subject = field.string(report)?.to_owned();
    if !Filter::parse(&subject).is_ok_and(|filter| filter.is_literal()) {
        report.error(field.position, format!("deliver subject {subject:?} is not a subject without wildcards"));
    }
    let push = Push {
        subject,
        group: text(block, "deliver_group", report).filter(|group| !group.is_empty()),
        flow_control: flag(block, "flow_control", report),
        heartbeat: block.field(&["idle_heartbeat"]).and_then(|field| heartbeat(&field, report)),
        rate_limit: block.field(&["rate_limit_bps"]).and_then(|field| field.limit(report)).flatten(),
    };
    if push.flow_control && push.heartbeat.is_none() {
        report.error(field.position, "consumer with flow control also needs heartbeats");
    }
    if let Some(waiting) = block.field(&["max_waiting"]) {
        report.error(waiting.position, "consumer in push mode can not set max waiting");
    }
    Some(push)
}

fn heartbeat(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    let heartbeat = positive(field, report)?;
    if heartbeat < SHORTEST_HEARTBEAT {
        report.error(field.position, "consumer idle heartbeat needs to be >= 100ms");
        return None;
    }
    Some(heartbeat)
}

pub(super) fn read_priority(block: &mut Block<'_>, consumer: &Field<'_>, report: &mut Report) -> Option<Priority> {
    let words = [
        ("none", None),
        ("overflow", Some(PriorityPolicy::Overflow)),
        ("pinned_client", Some(PriorityPolicy::PinnedClient)),
        ("prioritized", Some(PriorityPolicy::Prioritized)),
    ];
    let mut policy = None;
    if let Some(field) = block.field(&["priority_policy"]) {
        set(&mut policy, field.choice(&words, report));
    }
    let groups = block.field(&["priority_groups"]).and_then(|field| field.strings(report)).unwrap_or_default();
    let timeout = block.field(&["priority_timeout"]).and_then(|field| positive(&field, report));
    let Some(policy) = policy else {
        if !groups.is_empty() || timeout.is_some() {
            report.error(consumer.position, "priority groups need a \"priority_policy\"");
        }
        return None;
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/_=-".contains(&byte);
    let is_name = |group: &String| (1..=16).contains(&group.len()) && group.bytes().all(fits);
    if groups.is_empty() || !groups.iter().all(is_name) {
        let text = "a \"priority_policy\" needs \"priority_groups\": up to 16 characters each of A-Z, a-z, 0-9, -_/=";
        report.error(consumer.position, text);
    }
    Some(Priority { groups, policy, timeout })
}

/// Stock's rules for both at once.
pub(super) fn check(consumer: &Consumer, field: &Field<'_>, report: &mut Report) {
    if consumer.push.is_some() && consumer.priority.is_some() {
        report.error(field.position, "priority groups can not be used with push consumers");
    }
    let share = consumer.sample_frequency.as_deref().unwrap_or("0");
    if share.strip_suffix('%').unwrap_or(share).parse::<u32>().is_err() {
        report.error(field.position, "field \"sample_freq\": expected a share such as \"50%\"");
    }
}
