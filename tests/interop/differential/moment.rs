//! Moments in steps: `<in 1 s>` becomes a time, the same one for both servers.

use std::time::{SystemTime, UNIX_EPOCH};

use super::step::Step;

const MARK: &str = "<in 1 s>";

/// A step with what it says of times, from now on.
pub(super) fn of_now(step: &Step) -> Step {
    let mut step = step.clone();
    if let Step::Ask { headers, .. } = &mut step
        && headers.contains(MARK)
    {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        *headers = headers.replace(MARK, &text(now.as_secs() + 1));
    }
    step
}

/// Seconds since 1970, as RFC 3339 has it.
fn text(seconds: u64) -> String {
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}
