//! The options that say how much a layer that comes in may be.

use std::fmt;
use std::str::FromStr;

use windowsfilter::options::parse_size;
use windowsfilter::{Error, Limits};

/// Limits on each layer that comes in.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Limits on imported layers; `none` lifts one")]
pub(crate) struct LimitArguments {
    /// Entries of a layer
    #[arg(long, value_name = "NUMBER", default_value_t = Count(Limits::default().entries))]
    max_entries: Count,
    /// Bytes of a name or link target
    #[arg(long, value_name = "NUMBER", default_value_t = Count(Limits::default().name))]
    max_name: Count,
    /// Components of a name or link target
    #[arg(long, value_name = "NUMBER", default_value_t = Count(Limits::default().depth))]
    max_depth: Count,
    /// Size of an extended (PAX) header; it is never more than 1MiB
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().header))]
    max_header: Size,
    /// Size of a layer, uncompressed
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().size))]
    max_size: Size,
    /// How many times as large as compressed a layer of more than 1GiB may be
    #[arg(long, value_name = "NUMBER", default_value_t = Count(Limits::default().ratio))]
    max_ratio: Count,
}

/// The limit on a list of a sandbox's changes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct ChangeLimitArguments {
    /// Limit on the number of names that the sandbox changed; `none` lifts it
    #[arg(long, value_name = "NUMBER", default_value_t = Count(Limits::default().entries))]
    max_entries: Count,
}

/// Limits on a tar of a sandbox's changes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct DiffLimitArguments {
    #[command(flatten)]
    changes: ChangeLimitArguments,
    /// Limit on the size of the tar of a sandbox's changes; `none` lifts it
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().size))]
    max_size: Size,
}

impl From<ChangeLimitArguments> for Limits {
    fn from(arguments: ChangeLimitArguments) -> Self {
        Self { entries: arguments.max_entries.0, ..Self::default() }
    }
}

impl From<DiffLimitArguments> for Limits {
    fn from(arguments: DiffLimitArguments) -> Self {
        Self { size: arguments.max_size.0, ..arguments.changes.into() }
    }
}

impl From<LimitArguments> for Limits {
    fn from(arguments: LimitArguments) -> Self {
        // Named one by one, so that an option which nothing reads does not compile.
        let LimitArguments { max_entries, max_name, max_depth, max_header, max_size, max_ratio } = arguments;
        Self {
            entries: max_entries.0,
            name: max_name.0,
            depth: max_depth.0,
            header: max_header.0,
            size: max_size.0,
            ratio: max_ratio.0,
            ..Self::default()
        }
    }
}

const NONE: &str = "none";
/// A script that has computed nothing should not have lifted a limit.
const ZERO: &str = "0 would let nothing in; `none` is no limit";

/// A limit in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count(Option<u64>);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            NONE => Ok(Self(None)),
            text => match text.parse() {
                Ok(0) => Err(ZERO.to_owned()),
                Ok(number) => Ok(Self(Some(number))),
                Err(_) => Err("expected a number or `none`".to_owned()),
            },
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(NONE),
            Some(number) => write!(f, "{number}"),
        }
    }
}

/// A limit in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(Option<u64>);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            NONE => Ok(Self(None)),
            text => match parse_size(text) {
                Ok(0) => Err(ZERO.to_owned()),
                Ok(bytes) => Ok(Self(Some(bytes))),
                Err(Error::InvalidSize { reason, .. }) => Err(reason.to_owned()),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

impl fmt::Display for Size {
    /// As it can be typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.0 else { return f.write_str(NONE) };
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.iter().find(|(_, bits)| bytes != 0 && bytes % (1 << bits) == 0) {
            Some((unit, bits)) => write!(f, "{}{unit}", bytes >> bits),
            None => write!(f, "{bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_no_limit_and_zero_is_a_mistake() {
        assert_eq!("none".parse(), Ok(Count(None)));
        assert_eq!("none".parse(), Ok(Size(None)));
        assert_eq!("12".parse(), Ok(Count(Some(12))));
        assert_eq!("12k".parse(), Ok(Size(Some(12 << 10))));
        assert_eq!("0".parse::<Count>(), Err(ZERO.to_owned()));
        assert_eq!("0GB".parse::<Size>(), Err(ZERO.to_owned()));
        for bad in ["", "-1", "1k", "NONE"] {
            assert!(bad.parse::<Count>().is_err(), "{bad}");
        }
        assert!("1zz".parse::<Size>().is_err());
    }

    #[test]
    fn limits_are_shown_as_they_are_typed() {
        for size in [Some(1), Some(3 << 10), Some(512 << 30), Some(1 << 40), Some(u64::from(u32::MAX)), None]
        {
            assert_eq!(Size(size).to_string().parse(), Ok(Size(size)));
        }
        assert_eq!(Size(Some(512 << 30)).to_string(), "512GiB");
    }
}
