//! Times and durations as nats-server writes them.

use std::time::Duration;

/// `2026-01-02T15:04:05.000000001Z`, trailing zeroes of the fraction left out, as Go does.
pub fn timestamp(wall_ns: i64) -> String {
    let (year, month, day, hour, minute, second) = crate::log::civil(wall_ns.div_euclid(1_000_000_000));
    let fraction = format!("{:09}", wall_ns.rem_euclid(1_000_000_000));
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{fraction}Z")
}

/// Times in a life, whole seconds: `1d2h3m4s`, `0s`.
pub(super) fn uptime(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (years, days) = (seconds / 31_536_000, seconds / 86_400 % 365);
    let (hours, minutes, rest) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (years, days, hours, minutes) {
        (0, 0, 0, 0) => format!("{rest}s"),
        (0, 0, 0, _) => format!("{minutes}m{rest}s"),
        (0, 0, _, _) => format!("{hours}h{minutes}m{rest}s"),
        (0, _, _, _) => format!("{days}d{hours}h{minutes}m{rest}s"),
        _ => format!("{years}y{days}d{hours}h{minutes}m{rest}s"),
    }
}

/// A round trip: `386µs`, `1.5ms`, `2s`, as Go prints a duration.
pub(super) fn round_trip(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{}ms", trimmed(micros, 1_000, 3)),
        1_000_000..60_000_000 => format!("{}s", trimmed(micros, 1_000_000, 6)),
        _ => uptime(micros),
    }
}

fn trimmed(value: u64, unit: u64, digits: usize) -> String {
    let fraction = format!("{:0digits$}", value % unit);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}", value / unit)
}

/// Nanoseconds, for fields that are Go durations.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_look_as_stocks_do() {
        assert_eq!(timestamp(1_767_366_245_005_996_000), "2026-01-02T15:04:05.005996Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(uptime(59_999_999), "59s");
        assert_eq!(uptime(3_661_000_000), "1h1m1s");
        assert_eq!(uptime(90_061_000_000), "1d1h1m1s");
        assert_eq!(uptime(31_536_000_000_000), "1y0d0h0m0s");
        assert_eq!(round_trip(386), "386µs");
        assert_eq!(round_trip(1_500), "1.5ms");
        assert_eq!(round_trip(2_000_000), "2s");
    }
}
