//! Durations as Go writes them: `300ms`, `1h30m`, `1.5s`.

use std::time::Duration;

use thiserror::Error;

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not of the form number, unit, number, unit, ….
    #[error("time: invalid duration {0:?}, expected a number with a unit, such as \"300ms\", \"2s\" or \"1h30m\"")]
    Form(String),
    /// Below zero; no key takes that.
    #[error("the duration {0:?} is negative")]
    Negative(String),
    /// More than 292 years, Go's limit.
    #[error("the duration {0:?} is out of range")]
    TooLong(String),
}

/// Nanoseconds in an `i64`: what Go can hold, and so what stock accepts.
const MAX_NANOSECONDS: u128 = i64::MAX as u128;

/// Reads a Go duration. `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let form = || DurationError::Form(text.to_owned());
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(form());
    }
    let mut rest = unsigned;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, behind) = part(rest).ok_or_else(form)?;
        total = total.saturating_add(nanoseconds);
        if total > MAX_NANOSECONDS {
            return Err(DurationError::TooLong(text.to_owned()));
        }
        rest = behind;
    }
    if negative && total > 0 {
        return Err(DurationError::Negative(text.to_owned()));
    }
    u64::try_from(total).map(Duration::from_nanos).map_err(|_| DurationError::TooLong(text.to_owned()))
}

/// One number and its unit: nanoseconds, and what follows.
fn part(text: &str) -> Option<(u128, &str)> {
    let number_len = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, behind) = text.split_at(number_len);
    let unit_len = behind.find(|next: char| next.is_ascii_digit() || next == '.').unwrap_or(behind.len());
    let (unit, behind) = behind.split_at(unit_len);
    let unit: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // Too many digits are out of range, not malformed: the sum above says so.
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u128>().unwrap_or(u128::MAX) };
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    Some((whole.saturating_mul(unit).saturating_add(fraction * unit / scale), behind))
}

/// Writes a duration as Go does: `1h30m0s`, `2m0s`, `1.5s`, `300ms`.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    if nanoseconds < 1_000_000_000 {
        let (unit, name) = match nanoseconds {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{name}", decimal(nanoseconds, unit));
    }
    let minutes = nanoseconds / 60_000_000_000;
    let seconds = decimal(nanoseconds % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let fraction = value % unit;
    if fraction == 0 {
        return (value / unit).to_string();
    }
    let width = unit.to_string().len() - 1;
    let digits = format!("{fraction:0width$}");
    format!("{}.{}", value / unit, digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, nanoseconds: u64, written: &str) {
        assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        assert_eq!(format_duration(Duration::from_nanos(nanoseconds)), written);
    }

    #[test]
    fn as_go_reads_and_writes_them() {
        check("0", 0, "0s");
        check("300ms", 300_000_000, "300ms");
        check("1h30m", 5_400_000_000_000, "1h30m0s");
        check("1.5s", 1_500_000_000, "1.5s");
        check(".5m", 30_000_000_000, "30s");
        check("2m", 120_000_000_000, "2m0s");
        check("+1us", 1_000, "1µs");
        check("1m1ms", 60_001_000_000, "1m0.001s");
    }

    #[test]
    fn what_is_none_says_why() {
        for text in ["", "-", "5", "s", "1", "1d", "1..2s", ".s", "1 s", "1s2", "ten"] {
            assert_eq!(parse_duration(text), Err(DurationError::Form(text.to_owned())));
        }
        assert_eq!(parse_duration("-1s"), Err(DurationError::Negative("-1s".to_owned())));
        assert_eq!(parse_duration("3000000h"), Err(DurationError::TooLong("3000000h".to_owned())));
        let long = format!("{}s", "9".repeat(60));
        assert_eq!(parse_duration(&long), Err(DurationError::TooLong(long.clone())));
    }
}
