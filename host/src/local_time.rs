//! Times for people: as clocks of the shop show them, with their offset.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `2026-11-11 00:00 +08`; UTC where there is no such zone.
pub fn show(at: Timestamp, time_zone: &str) -> String {
    let zone = TimeZone::get(time_zone).unwrap_or(TimeZone::UTC);
    let minutes = zone.to_offset(at).seconds() / 60;
    let (sign, hours, rest) = (if minutes < 0 { '-' } else { '+' }, minutes.abs() / 60, minutes.abs() % 60);
    let part_of_an_hour = if rest == 0 { String::new() } else { format!(":{rest:02}") };
    format!("{} {sign}{hours:02}{part_of_an_hour}", zone.to_datetime(at).strftime("%F %H:%M"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_names_its_offset() {
        let at: jiff::Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        for (zone, shown) in [
            ("Asia/Shanghai", "2026-06-01 08:00 +08"),
            ("Asia/Kolkata", "2026-06-01 05:30 +05:30"),
            ("America/St_Johns", "2026-05-31 21:30 -02:30"),
            ("Mars/Olympus", "2026-06-01 00:00 +00"),
        ] {
            assert_eq!(super::show(at, zone), shown);
        }
    }
}
