//! FILETIME: the time of every Windows file, and its place on the Unix clock.
//!
//! A FILETIME counts 100 ns steps since 1601-01-01 UTC in 64 bits, which reaches to the year 60056. Layers
//! written by Docker lose everything outside 1677-2262, because the reference passes times through a 64-bit
//! count of nanoseconds. Nothing here does: seconds and nanoseconds stay apart, so a conversion is exact if
//! the target can hold the value, and saturates if it cannot.
//!
//! Source: `FILETIME` (minwinbase.h), \[MS-DTYP\] 2.3.3.

use crate::pax_time::PaxTime;

/// 100 ns steps in a second.
const STEPS_PER_SECOND: u64 = 10_000_000;
/// Nanoseconds in a step.
const NANOS_PER_STEP: u32 = 100;
/// Seconds from 1601-01-01 to 1970-01-01.
const SECONDS_TO_UNIX_EPOCH: i64 = 11_644_473_600;

/// A point in time as Windows stores it: 100 ns steps since 1601-01-01 00:00 UTC.
///
/// The whole range of `u64` is kept. Windows itself refuses to set values above `i64::MAX` (year 30828).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime(pub u64);

impl FileTime {
    /// 1970-01-01 00:00 UTC.
    pub const UNIX_EPOCH: FileTime = FileTime(SECONDS_TO_UNIX_EPOCH as u64 * STEPS_PER_SECOND);

    /// The access or change time of a layer tar without one: year 1754, where Go's zero time (year 1) lands
    /// after wrapping at 64 bits of nanoseconds. The reference writes it to disk, so we keep it.
    pub const ABSENT: FileTime = FileTime(48_491_090_211_286_549);

    /// The time `secs` and `nanos` after 1970-01-01 UTC (`nanos` up to 999,999,999; more carries over).
    ///
    /// Fractions of 100 ns are cut towards the past. Saturates at `FileTime(0)` and `FileTime(u64::MAX)`.
    pub fn from_unix(secs: i64, nanos: u32) -> FileTime {
        let steps = i128::from(secs) * i128::from(STEPS_PER_SECOND) + i128::from(nanos / NANOS_PER_STEP);
        Self::from_unix_steps(steps)
    }

    /// Seconds since 1970-01-01 UTC and the nanoseconds after them (0..=999,999,900). Exact.
    pub fn to_unix(self) -> (i64, u32) {
        // At most 1.8e12 seconds, so every value fits.
        let secs = (self.0 / STEPS_PER_SECOND) as i64 - SECONDS_TO_UNIX_EPOCH;
        (secs, (self.0 % STEPS_PER_SECOND) as u32 * NANOS_PER_STEP)
    }

    /// The time of a PAX record, as the reference imports it: cut to 100 ns *towards 1970*, so
    /// `-0.00000009` is 1970-01-01 and not the step before it. Saturates at both ends.
    pub fn from_pax(time: &PaxTime) -> FileTime {
        let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
        Self::from_unix_steps(nanos / i128::from(NANOS_PER_STEP))
    }

    /// This time as a PAX record holds it. Exact: [`FileTime::from_pax`] gives it back.
    pub fn to_pax(self) -> PaxTime {
        let (secs, nanos) = self.to_unix();
        PaxTime { secs, nanos }
    }

    fn from_unix_steps(steps: i128) -> FileTime {
        let since_1601 = steps.saturating_add(i128::from(Self::UNIX_EPOCH.0));
        FileTime(since_1601.clamp(0, i128::from(u64::MAX)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_of_the_range_are_exact() {
        assert_eq!(FileTime(0).to_unix(), (-11_644_473_600, 0));
        assert_eq!(FileTime(u64::MAX).to_unix(), (1_833_029_933_770, 955_161_500));
        assert_eq!(FileTime::from_unix(-11_644_473_600, 0), FileTime(0));
        assert_eq!(FileTime::from_unix(1_833_029_933_770, 955_161_500), FileTime(u64::MAX));
    }

    #[test]
    fn times_that_do_not_fit_saturate() {
        assert_eq!(FileTime::from_unix(-11_644_473_601, 999_999_999), FileTime(0));
        assert_eq!(FileTime::from_unix(i64::MIN, 0), FileTime(0));
        assert_eq!(FileTime::from_unix(i64::MAX, u32::MAX), FileTime(u64::MAX));
        assert_eq!(FileTime::from_pax(&PaxTime { secs: i64::MIN, nanos: 0 }), FileTime(0));
    }

    #[test]
    fn a_unix_time_is_cut_towards_the_past_and_a_pax_time_towards_1970() {
        assert_eq!(FileTime::from_unix(-1, 999_999_910), FileTime(FileTime::UNIX_EPOCH.0 - 1));
        let pax = PaxTime { secs: -1, nanos: 999_999_910 };
        assert_eq!(FileTime::from_pax(&pax), FileTime::UNIX_EPOCH);
    }

    proptest! {
        #[test]
        fn every_filetime_survives_unix_and_pax(steps: u64) {
            let time = FileTime(steps);
            let (secs, nanos) = time.to_unix();
            prop_assert_eq!(FileTime::from_unix(secs, nanos), time);
            prop_assert_eq!(FileTime::from_pax(&time.to_pax()), time);
        }
    }
}
