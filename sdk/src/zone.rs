//! Times as an operator writes them: in the shop's time zone, kept as instants.
//!
//! A time without an offset is of the zone. One that clocks skip is that much
//! after the jump (02:30 becomes 03:30); one that they show twice is the first
//! of the two, and the second can be had by writing its offset. What [`show`]
//! writes names the offset, so that reading it back gives the same instant.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::Timestamp;

/// The instant, in UTC milliseconds; what is wrong otherwise. `zone` is an IANA
/// name as in the shop's settings.
pub fn instant_ms(text: &str, zone: &str) -> Result<i64, String> {
    let text = text.trim();
    let zone = find(zone)?;
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.as_millisecond());
    }
    let unreadable = |error: jiff::Error| format!("`{text}` is not a time such as 2026-11-11T00:00 (of the shop's zone) or 2026-11-11T00:00+08:00: {error}");
    let local: DateTime = text.parse().map_err(unreadable)?;
    Ok(zone.to_timestamp(local).map_err(unreadable)?.as_millisecond())
}

/// The same instant as RFC 3339 has it in UTC: what to store.
pub fn utc(text: &str, zone: &str) -> Result<String, String> {
    let at = Timestamp::from_millisecond(instant_ms(text, zone)?).map_err(|error| error.to_string())?;
    Ok(at.to_string())
}

/// As clocks of the zone show it, with their offset: `2026-11-11T00:00:00+08:00`.
pub fn show(instant_ms: i64, zone: &str) -> String {
    let Ok(instant) = Timestamp::from_millisecond(instant_ms) else { return instant_ms.to_string() };
    let zone = find(zone).unwrap_or(TimeZone::UTC);
    let (at, seconds) = (zone.to_datetime(instant), zone.to_offset(instant).seconds());
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
    format!("{at}{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

fn find(zone: &str) -> Result<TimeZone, String> {
    TimeZone::get(zone).map_err(|error| format!("the shop's time zone: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_of_the_shops_zone_across_changes_of_clocks() {
        let utc = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        for (text, zone, instant, shown) in [
            ("2026-11-11T00:00", "Asia/Shanghai", "2026-11-10T16:00:00Z", "2026-11-11T00:00:00+08:00"),
            ("2026-11-11 00:00", "Asia/Shanghai", "2026-11-10T16:00:00Z", "2026-11-11T00:00:00+08:00"),
            ("2026-11-11", "Asia/Shanghai", "2026-11-10T16:00:00Z", "2026-11-11T00:00:00+08:00"),
            ("2026-11-11T00:00:00Z", "Asia/Shanghai", "2026-11-11T00:00:00Z", "2026-11-11T08:00:00+08:00"),
            // Skipped on 29 March.
            ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29T01:30:00Z", "2026-03-29T03:30:00+02:00"),
            // Twice on 25 October.
            ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00+02:00"),
            ("2026-10-25T02:30+01:00", "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00+01:00"),
        ] {
            let at = instant_ms(text, zone).unwrap();
            assert_eq!((at, show(at, zone).as_str()), (utc(instant), shown), "{text} in {zone}");
        }
        assert!(instant_ms("next week", "Europe/Berlin").unwrap_err().contains("2026-11-11T00:00"));
        assert!(instant_ms("2026-11-11", "Mars/Olympus").unwrap_err().contains("time zone"));
    }

    proptest! {
        #[test]
        fn saving_what_is_shown_changes_nothing(instant in -2_000_000_000_000_i64..8_000_000_000_000, zone in prop::sample::select(vec!["Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])) {
            // Offsets of long ago have seconds; no promotion is from then.
            let instant = instant.max(0);
            prop_assert_eq!(instant_ms(&show(instant, zone), zone), Ok(instant));
        }
    }
}
