//! Patterns of six fields (seconds, minutes, hours, days of the month, months, days of the week) and the times that match them.
//!
//! Steps, ranges, lists and names are those of nats-server (which has them from a well-known Go library), and so is what happens around a change of the
//! clock: an hour that a zone skips does not match on that day; one that comes twice may match twice.

use time::OffsetDateTime;

use crate::schedule::zone::Zone;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Nobody waits longer for a match.
const MOST_YEARS: i32 = 5;
/// Set in a field that is not restricted.
const STAR: u64 = 1 << 63;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A pattern: a bit for each value that matches, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cron {
    second: u64,
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
}

/// What a field may hold.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

impl Cron {
    /// Reads a pattern.
    pub(crate) fn parse(pattern: &str) -> Option<Cron> {
        let mut fields = pattern.split_whitespace();
        let mut next =
            |least, most, names: &'static [&'static str]| field(fields.next()?, &Bounds { least, most, names });
        let cron = Cron {
            second: next(0, 59, &[])?,
            minute: next(0, 59, &[])?,
            hour: next(0, 23, &[])?,
            day: next(1, 31, &[])?,
            month: next(1, 12, &MONTHS)?,
            weekday: next(0, 6, &DAYS)?,
        };
        fields.next().is_none().then_some(cron)
    }

    /// The first time that matches in the whole seconds after `unix`, in seconds since 1970; `None`: none within five years.
    pub(crate) fn next(&self, unix: i64, zone: &Zone) -> Option<i64> {
        let mut at = Moment { unix: unix.checked_add(1)?, zone, is_cut: false };
        let last_year = at.civil()?.year() + MOST_YEARS;
        'wrap: loop {
            if at.civil()?.year() > last_year {
                return None;
            }
            while self.month & 1 << u8::from(at.civil()?.month()) == 0 {
                at.move_to_next_month()?;
                if at.civil()?.month() == time::Month::January {
                    continue 'wrap;
                }
            }
            while !self.matches_day(&at.civil()?) {
                at.move_to_next_day()?;
                if at.civil()?.day() == 1 {
                    continue 'wrap;
                }
            }
            while self.hour & 1 << at.civil()?.hour() == 0 {
                at.move_to_next_hour()?;
                if at.civil()?.hour() == 0 {
                    continue 'wrap;
                }
            }
            while self.minute & 1 << at.civil()?.minute() == 0 {
                at.move_to_next_minute();
                if at.civil()?.minute() == 0 {
                    continue 'wrap;
                }
            }
            while self.second & 1 << at.civil()?.second() == 0 {
                at.is_cut = true;
                at.unix += 1;
                if at.civil()?.second() == 0 {
                    continue 'wrap;
                }
            }
            return Some(at.unix);
        }
    }

    /// Where both kinds of days are restricted, one of them is enough.
    fn matches_day(&self, civil: &OffsetDateTime) -> bool {
        let of_month = self.day & 1 << civil.day() != 0;
        let of_week = self.weekday & 1 << civil.weekday().number_days_from_sunday() != 0;
        if (self.day | self.weekday) & STAR != 0 { of_month && of_week } else { of_month || of_week }
    }
}

/// A time on its way to the next match.
struct Moment<'a> {
    unix: i64,
    zone: &'a Zone,
    /// What is smaller than the field that was moved is at its beginning.
    is_cut: bool,
}

impl Moment<'_> {
    /// The clock's face in the zone, as if it were that of UTC.
    fn civil(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(self.unix.checked_add(self.zone.offset_at(self.unix))?).ok()
    }

    /// Goes to what the clock shows as `local`; in a stretch that the zone skips or repeats, to one of the two times it may be.
    fn set(&mut self, local: i64) {
        let offset = self.zone.offset_at(local);
        let offset = self.zone.offset_at(local - offset);
        self.unix = local - offset;
    }

    fn move_to_next_month(&mut self) -> Option<()> {
        let civil = self.civil()?;
        let (seconds, day) = (civil.unix_timestamp(), i64::from(civil.day()));
        let of_day = if self.is_cut { seconds.rem_euclid(DAY) } else { 0 };
        let first = seconds.div_euclid(DAY) - (day - 1);
        let days = i64::from(civil.month().length(civil.year()));
        self.is_cut = true;
        self.set((first + days) * DAY + of_day);
        Some(())
    }

    fn move_to_next_day(&mut self) -> Option<()> {
        let seconds = self.civil()?.unix_timestamp();
        let of_day = if self.is_cut { seconds.rem_euclid(DAY) } else { 0 };
        self.is_cut = true;
        self.set((seconds.div_euclid(DAY) + 1) * DAY + of_day);
        Some(())
    }

    fn move_to_next_hour(&mut self) -> Option<()> {
        if !std::mem::replace(&mut self.is_cut, true) {
            let seconds = self.civil()?.unix_timestamp();
            self.set(seconds - seconds.rem_euclid(HOUR));
        }
        self.unix += HOUR;
        Some(())
    }

    fn move_to_next_minute(&mut self) {
        if !std::mem::replace(&mut self.is_cut, true) {
            self.unix -= self.unix.rem_euclid(MINUTE);
        }
        self.unix += MINUTE;
    }
}

/// A list of ranges. One that is empty matches nothing, and is no pattern.
fn field(text: &str, bounds: &Bounds) -> Option<u64> {
    let ranges = text.split(',').filter(|range| !range.is_empty());
    let bits = ranges.map(|text| range(text, bounds)).try_fold(0, |all, bits| Some(all | bits?))?;
    (bits & !STAR != 0).then_some(bits)
}

/// `*`, `n`, `n-m`, each with `/step`.
fn range(text: &str, bounds: &Bounds) -> Option<u64> {
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(number(step)?)),
        None => (text, None),
    };
    let (first, last) = range.split_once('-').map_or((range, None), |(first, last)| (first, Some(last)));
    let is_open = matches!(first, "*" | "?");
    let start = if is_open { bounds.least } else { value(first, bounds)? };
    let end = match last {
        _ if is_open => bounds.most,
        Some(last) => value(last, bounds)?,
        // `n/step` goes on to the end.
        None if step.is_some() => bounds.most,
        None => start,
    };
    let step_by = step.unwrap_or(1);
    if start < bounds.least || end > bounds.most || start > end || step_by == 0 {
        return None;
    }
    let bits = (start..=end).step_by(step_by as usize).fold(0, |bits, value| bits | 1 << value);
    Some(if is_open && step_by == 1 { bits | STAR } else { bits })
}

fn value(text: &str, bounds: &Bounds) -> Option<u32> {
    let named = bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    named.map(|index| index as u32 + bounds.least).or_else(|| number(text))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::Cron;
    use crate::schedule::zone::Zone;

    fn unix(text: &str) -> i64 {
        OffsetDateTime::parse(text, &Rfc3339).expect("a time").unix_timestamp()
    }

    fn check(pattern: &str, zone: &str, after: &str, wanted: &[&str]) {
        let cron = Cron::parse(pattern).expect("a pattern");
        let zone = Zone::named(zone).expect("a zone");
        let mut at = unix(after);
        for wanted in wanted {
            at = cron.next(at, &zone).expect("a time");
            assert_eq!(at, unix(wanted), "{pattern} after {after}: {wanted}");
        }
    }

    #[test]
    fn times_that_match_are_found() {
        check("* * * * * *", "UTC", "2026-01-01T00:00:00Z", &["2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"]);
        check("0 */15 * * * *", "UTC", "2026-01-01T00:14:59Z", &["2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"]);
        check("0 0 12 * * mon-fri", "UTC", "2026-01-02T12:00:00Z", &["2026-01-05T12:00:00Z", "2026-01-06T12:00:00Z"]);
        check(
            "0 30 8 1,15 JAN,Jun *",
            "UTC",
            "2026-01-01T09:00:00Z",
            &["2026-01-15T08:30:00Z", "2026-06-01T08:30:00Z"],
        );
        // Both kinds of days: one is enough.
        check("0 0 0 13 * fri", "UTC", "2026-01-31T00:00:00Z", &["2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z"]);
        check("0 0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
        check("5/20 59 23 31 12 ?", "UTC", "2026-01-01T00:00:00Z", &["2026-12-31T23:59:05Z", "2026-12-31T23:59:25Z"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "* * * * *",
            "* * * * * * *",
            "60 * * * * *",
            "* * 24 * * *",
            "* * * 0 * *",
            "* * * * 13 *",
            "* * * * * 7",
            "5-1 * * * * *",
            "*/0 * * * * *",
            "1-2-3 * * * * *",
            "1/2/3 * * * * *",
            "x * * * * *",
            ", * * * * *",
            "-1 * * * * *",
            "@daily",
            "* * * * * someday",
        ] {
            assert_eq!(Cron::parse(text), None, "{text}");
        }
        let never = Cron::parse("0 0 0 30 2 *").expect("a pattern");
        assert_eq!(never.next(0, &Zone::Utc), None);
    }

    #[test]
    fn zones_change_their_clocks() {
        // 02:30 does not exist on the 29th of March, and comes twice on the 25th of October.
        check(
            "0 30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"],
        );
        check("0 0 9 * * *", "America/New_York", "2026-10-31T14:00:00Z", &["2026-11-01T14:00:00Z"]);
        check("0 0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", &["2026-01-01T03:30:00Z"]);
        // Long after the last change that is written down.
        check("0 0 12 1 7 *", "Europe/Berlin", "2060-01-01T00:00:00Z", &["2060-07-01T10:00:00Z"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_pattern_or_not(text in "[0-9*,/?a-f -]{0,30}", at in 0..4_000_000_000i64) {
            let next = Cron::parse(&text).and_then(|cron| cron.next(at, &Zone::Utc));
            assert!(next.is_none_or(|next| next > at));
        }
    }
}
