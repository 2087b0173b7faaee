//! Sizes, times and names as people read them.

use wclayer::filetime::FileTime;

/// `bytes` with a binary unit and at most four digits: `0 B`, `1.5 KiB`, `4.2 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time in the 100 ns that Windows keeps, RFC 3339 in UTC. Years beyond 9999, which that format does not
/// have, are given as `FILETIME` and the number.
pub(crate) fn filetime(time: FileTime) -> String {
    let (seconds, nanoseconds) = time.to_unix();
    timestamp(seconds, nanoseconds).unwrap_or_else(|| format!("FILETIME {}", time.0))
}

/// A time since 1970, RFC 3339 in UTC; a bare number of seconds where no calendar reaches.
pub(crate) fn unix_time(seconds: i64, nanoseconds: u32) -> String {
    timestamp(seconds, nanoseconds).unwrap_or_else(|| format!("@{seconds}"))
}

fn timestamp(seconds: i64, nanoseconds: u32) -> Option<String> {
    // jiff wants both parts to have one sign.
    let (seconds, nanoseconds) = match i32::try_from(nanoseconds).ok()? {
        n if n > 0 && seconds < 0 => (seconds + 1, n - 1_000_000_000),
        n => (seconds, n),
    };
    jiff::Timestamp::new(seconds, nanoseconds).ok().map(|t| t.to_string())
}

/// Minutes are enough in a table.
pub(crate) fn unix_minute(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds);
    time.map_or_else(|_| format!("@{seconds}"), |t| t.strftime("%Y-%m-%d %H:%M").to_string())
}

/// An RFC 3339 time as [`unix_minute`] shows it; other text unchanged.
pub(crate) fn rfc3339_minute(text: &str) -> String {
    let time = text.parse::<jiff::Timestamp>();
    time.map_or_else(|_| name(text.as_bytes()), |time| unix_minute(time.as_second()))
}

/// A name from an image as text. Control characters, which could play tricks on a terminal, and bytes that
/// are no text are shown as `\u{…}` and `\x…`.
pub(crate) fn name(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                out.extend(c.escape_unicode());
            } else {
                out.push(c);
            }
        }
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    out
}

/// A layer ID short enough for a table: IDs that are digests are cut to what tells them apart.
pub(crate) fn short_id(id: &str) -> &str {
    if id.len() >= 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) { &id[..12] } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_few_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (127 << 30, "127.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_reach_over_the_whole_range_of_windows() {
        assert_eq!(filetime(FileTime(0)), "1601-01-01T00:00:00Z");
        assert_eq!(filetime(FileTime(1)), "1601-01-01T00:00:00.0000001Z");
        assert_eq!(filetime(FileTime(132_434_736_000_000_001)), "2020-09-01T22:40:00.0000001Z");
        assert_eq!(filetime(FileTime(u64::MAX)), "FILETIME 18446744073709551615");
    }

    #[test]
    fn names_cannot_play_tricks_on_a_terminal() {
        assert_eq!(name("grün.txt".as_bytes()), "grün.txt");
        assert_eq!(name(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        assert_eq!(name(b"a\xff\xfe"), "a\\xff\\xfe");
    }

    #[test]
    fn only_digests_are_cut() {
        assert_eq!(short_id(&"ab".repeat(32)), "abababababab");
        assert_eq!(
            short_id("a-name-of-a-sandbox-that-is-not-so-short"),
            "a-name-of-a-sandbox-that-is-not-so-short"
        );
    }
}
