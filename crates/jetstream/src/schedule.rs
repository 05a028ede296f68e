//! When a message is to be sent (ADR-51): `@at` a time, `@every` so often, or by a pattern of cron, in a time zone if one is named.
//!
//! Pure: from the headers to a time. Who keeps and fires schedules is [`crate::schedule::scheduling`].

pub(crate) mod cron;
pub(crate) mod firing;
pub(crate) mod publish_check;
pub(crate) mod scheduling;
pub(crate) mod zone;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api_error::{self, ApiError};
use crate::consumer::consuming::parse_duration;
use crate::identity::Timestamp;
use crate::schedule::cron::Cron;
use crate::schedule::zone::Zone;

const SECOND_NS: i64 = 1_000_000_000;
const SHORTEST_MILLIS: u64 = 1000;
/// Nobody waits longer.
const LONGEST_MILLIS: u64 = 1 << 40;

/// When a message is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// Once.
    At(Timestamp),
    /// Again and again after so many milliseconds.
    Every(u64),
    /// Whenever the pattern matches.
    Cron(Cron, Zone),
}

impl Schedule {
    /// Reads the headers `Nats-Schedule` and, if it is there at all, `Nats-Schedule-Time-Zone`.
    pub(crate) fn parse(pattern: &[u8], zone: Option<&[u8]>) -> Result<Schedule, ApiError> {
        let zone = match zone {
            Some(name) => Some(text(name).and_then(Zone::named).ok_or(api_error::MESSAGE_SCHEDULES_TIME_ZONE_INVALID)?),
            None => None,
        };
        let read = |pattern: &str| match pattern.split_once(' ') {
            Some(("@at", time)) if zone.is_none() => at(time),
            Some(("@every", interval)) if zone.is_none() => every(interval),
            Some(("@at" | "@every", _)) => None,
            _ => Cron::parse(written_out(pattern)).map(|cron| Schedule::Cron(cron, zone.clone().unwrap_or(Zone::Utc))),
        };
        let schedule = text(pattern).and_then(read);
        // One that never comes is none either.
        let comes =
            |schedule: &Schedule| !matches!(schedule, Schedule::Cron(..)) || schedule.next(Timestamp(0)).is_some();
        schedule.filter(comes).ok_or(api_error::MESSAGE_SCHEDULES_PATTERN_INVALID)
    }

    /// It is sent more than once.
    pub(crate) fn repeats(&self) -> bool {
        !matches!(self, Schedule::At(_))
    }

    /// The first time after `after`; for `@at` its time, whenever that is.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::At(time) => Some(*time),
            Schedule::Every(millis) => {
                let interval = i64::try_from(*millis).ok()?.checked_mul(1_000_000)?;
                Some(Timestamp(to_second(after).0.checked_add(interval)?))
            }
            Schedule::Cron(cron, zone) => {
                let next = cron.next(after.0.div_euclid(SECOND_NS), zone)?;
                next.checked_mul(SECOND_NS).map(Timestamp)
            }
        }
    }

    /// A time as its header has it: in the schedule's zone.
    pub(crate) fn show(&self, time: Timestamp) -> String {
        let Schedule::Cron(_, zone) = self else { return time.to_string() };
        let offset = zone.offset_at(time.0.div_euclid(SECOND_NS));
        let local = Timestamp(time.0.saturating_add(offset.saturating_mul(SECOND_NS))).to_string();
        match (zone, local.strip_suffix('Z')) {
            (Zone::Named(_), Some(local)) if offset != 0 => {
                let minutes = offset.abs() / 60;
                format!("{local}{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
            }
            _ => local,
        }
    }
}

/// The nearest whole second.
pub(crate) fn to_second(time: Timestamp) -> Timestamp {
    Timestamp(time.0.saturating_add(SECOND_NS / 2).div_euclid(SECOND_NS) * SECOND_NS)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Times that nobody's clock can show are as far away as can be.
fn at(time: &str) -> Option<Schedule> {
    let nanos = OffsetDateTime::parse(time, &Rfc3339).ok()?.unix_timestamp_nanos();
    let nanos = nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    Some(Schedule::At(Timestamp(nanos as i64)))
}

fn every(interval: &str) -> Option<Schedule> {
    let millis = parse_duration(interval)?;
    (SHORTEST_MILLIS..=LONGEST_MILLIS).contains(&millis).then_some(Schedule::Every(millis))
}

fn written_out(pattern: &str) -> &str {
    match pattern {
        "@yearly" | "@annually" => "0 0 0 1 1 *",
        "@monthly" => "0 0 0 1 * *",
        "@weekly" => "0 0 0 * * 0",
        "@daily" | "@midnight" => "0 0 0 * * *",
        "@hourly" => "0 0 * * * *",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use crate::api_error;
    use crate::identity::Timestamp;

    /// 2026-01-01T00:00:00.7Z
    const NOW: Timestamp = Timestamp(1_767_225_600_700_000_000);

    fn next(pattern: &str, zone: Option<&str>) -> Result<String, u16> {
        let schedule = Schedule::parse(pattern.as_bytes(), zone.map(str::as_bytes)).map_err(|error| error.err_code)?;
        Ok(schedule.show(schedule.next(NOW).expect("comes")))
    }

    #[test]
    fn schedules_are_read_as_stock_reads_them() {
        let good = [
            ("@at 2026-05-01T12:00:00+02:00", None, "2026-05-01T10:00:00Z"),
            ("@at 1999-05-01T12:00:00.5Z", None, "1999-05-01T12:00:00.5Z"),
            ("@every 1.5s", None, "2026-01-01T00:00:02.5Z"),
            ("@every 1h", None, "2026-01-01T01:00:01Z"),
            ("@hourly", None, "2026-01-01T01:00:00Z"),
            ("@weekly", None, "2026-01-04T00:00:00Z"),
            ("@yearly", Some("UTC"), "2027-01-01T00:00:00Z"),
            ("@daily", Some("Europe/Berlin"), "2026-01-02T00:00:00+01:00"),
            ("0 0 9 * * *", Some("America/New_York"), "2026-01-01T09:00:00-05:00"),
        ];
        for (pattern, zone, wanted) in good {
            assert_eq!(next(pattern, zone).as_deref(), Ok(wanted), "{pattern}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let invalid = api_error::MESSAGE_SCHEDULES_PATTERN_INVALID.err_code;
        let bad = [
            ("@at", None),
            ("@at soon", None),
            ("@at 2026-05-01T12:00:00", None),
            ("@every 999ms", None),
            ("@every -5s", None),
            ("@every 5", None),
            ("@every", None),
            ("@often", None),
            ("0 0 0 30 2 *", None),
            ("@at 2026-05-01T12:00:00Z", Some("UTC")),
            ("@every 5s", Some("UTC")),
        ];
        for (pattern, zone) in bad {
            assert_eq!(next(pattern, zone), Err(invalid), "{pattern}");
        }
        let invalid = api_error::MESSAGE_SCHEDULES_TIME_ZONE_INVALID.err_code;
        for zone in ["", "Nowhere"] {
            assert_eq!(next("@daily", Some(zone)), Err(invalid), "{zone}");
        }
    }
}
