//! The local time zone: `TZ` if it is set, or else the machine's zone, or else UTC.
//!
//! Only one file of the time zone database is read, and only if it is needed. A time zone library
//! would scan the whole database.

use std::{fs, path::PathBuf, sync::OnceLock};

use jiff::tz::TimeZone;

use crate::config;

const DATABASE: &str = "/usr/share/zoneinfo";
const MACHINE: &str = "/etc/localtime";
/// Size limit of a zone file. It is fifty times the size of the largest existing file.
const LONGEST_FILE_BYTES: u64 = 1 << 20;

/// Names of UTC, which are known without the database. Small containers do not have it.
const UTC: [&str; 6] = ["", "UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu"];

/// The zone of this process, which does not change while it runs.
pub(crate) fn local() -> TimeZone {
    static LOCAL: OnceLock<TimeZone> = OnceLock::new();
    LOCAL
        .get_or_init(|| find().unwrap_or(TimeZone::UTC))
        .clone()
}

/// The value of `TZ` if it names no zone of this machine: times are in UTC then.
pub(crate) fn unknown() -> Option<String> {
    if cfg!(test) {
        return None;
    }
    let name = config::process_environment("TZ")?;
    let name = name.to_string_lossy().into_owned();
    named(&name).is_none().then_some(name)
}

fn find() -> Option<TimeZone> {
    // Results of unit tests must not depend on the zone of the machine on which they run.
    if cfg!(test) {
        return None;
    }
    match config::process_environment("TZ") {
        Some(name) => named(&name.to_string_lossy()),
        None => of_file("", MACHINE.into()),
    }
}

/// Parses the value of `TZ`: the name of a zone, the path of a file, or a rule such as
/// `CET-1CEST,M3.5.0,M10.5.0/3`.
fn named(name: &str) -> Option<TimeZone> {
    let name = name.strip_prefix(':').unwrap_or(name);
    let database = config::process_environment("TZDIR").unwrap_or_else(|| DATABASE.into());
    // If `name` is an absolute path, `join` returns it unchanged.
    let path = PathBuf::from(database).join(name);
    of_file(name, path).or_else(|| without_database(name))
}

fn without_database(name: &str) -> Option<TimeZone> {
    if UTC.contains(&name) {
        return Some(TimeZone::UTC);
    }
    TimeZone::posix(name).ok()
}

fn of_file(name: &str, path: PathBuf) -> Option<TimeZone> {
    let found = fs::metadata(&path).ok()?;
    if !found.is_file() || found.len() > LONGEST_FILE_BYTES {
        return None;
    }
    TimeZone::tzif(name, &fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_given_by_a_name_a_file_or_a_rule() {
        let check = |name: &str, expected: Option<i32>| {
            let winter = jiff::Timestamp::UNIX_EPOCH;
            let offset = named(name).map(|zone| zone.to_offset(winter).seconds());
            assert_eq!(offset, expected, "{name:?}");
        };
        check("UTC0", Some(0));
        check("CET-1CEST,M3.5.0,M10.5.0/3", Some(3600));
        check(":EST5", Some(-18_000));
        check("nowhere at all", None);
        check("/", None);
        check("", Some(0));
        check(":", Some(0));
    }

    #[test]
    fn utc_is_known_on_a_machine_without_the_database() {
        let is_known = |name: &str| without_database(name).is_some();
        assert!(is_known("UTC") && is_known("Etc/UTC") && is_known("GMT") && is_known("EST5"));
        assert!(!is_known("Europe/Paris"));
    }
}
