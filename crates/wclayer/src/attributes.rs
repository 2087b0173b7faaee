//! File attributes: the 32 bits of `FILE_ATTRIBUTE_*` that every Windows file carries.
//!
//! All bits are kept, even unnamed ones, so they are plain `u32`; this module only names them.
//!
//! Source: \[MS-FSCC\] 2.6 and winnt.h.

macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*

        /// Every named bit with the name shown to people, lowest bit first.
        const NAMES: &[(u32, &str)] = &[$(($value, $text)),*];
    };
}

attributes! {
    /// May not be written or deleted.
    FILE_ATTRIBUTE_READONLY = 0x0000_0001, "readonly";
    /// Left out of ordinary listings.
    FILE_ATTRIBUTE_HIDDEN = 0x0000_0002, "hidden";
    /// Belongs to the operating system.
    FILE_ATTRIBUTE_SYSTEM = 0x0000_0004, "system";
    /// Is a directory.
    FILE_ATTRIBUTE_DIRECTORY = 0x0000_0010, "directory";
    /// Changed since the last backup.
    FILE_ATTRIBUTE_ARCHIVE = 0x0000_0020, "archive";
    /// Reserved for devices.
    FILE_ATTRIBUTE_DEVICE = 0x0000_0040, "device";
    /// Has no other attribute. Windows drops it when any other is set.
    FILE_ATTRIBUTE_NORMAL = 0x0000_0080, "normal";
    /// Kept in memory where possible.
    FILE_ATTRIBUTE_TEMPORARY = 0x0000_0100, "temporary";
    /// Has unallocated ranges.
    FILE_ATTRIBUTE_SPARSE_FILE = 0x0000_0200, "sparse";
    /// Carries reparse data.
    FILE_ATTRIBUTE_REPARSE_POINT = 0x0000_0400, "reparse";
    /// Compressed by NTFS.
    FILE_ATTRIBUTE_COMPRESSED = 0x0000_0800, "compressed";
    /// Its data is not on this disk.
    FILE_ATTRIBUTE_OFFLINE = 0x0000_1000, "offline";
    /// Left out of the content index.
    FILE_ATTRIBUTE_NOT_CONTENT_INDEXED = 0x0000_2000, "notindexed";
    /// Encrypted by EFS.
    FILE_ATTRIBUTE_ENCRYPTED = 0x0000_4000, "encrypted";
    /// Has integrity streams (ReFS).
    FILE_ATTRIBUTE_INTEGRITY_STREAM = 0x0000_8000, "integrity";
    /// Reserved.
    FILE_ATTRIBUTE_VIRTUAL = 0x0001_0000, "virtual";
    /// Not read by the data scrubber.
    FILE_ATTRIBUTE_NO_SCRUB_DATA = 0x0002_0000, "noscrub";
    /// In directory listings: opening it fetches it. On disk this bit means that the file has EAs.
    FILE_ATTRIBUTE_RECALL_ON_OPEN = 0x0004_0000, "recall-on-open";
    /// To be kept on this disk.
    FILE_ATTRIBUTE_PINNED = 0x0008_0000, "pinned";
    /// Need not be kept on this disk.
    FILE_ATTRIBUTE_UNPINNED = 0x0010_0000, "unpinned";
    /// Reading it fetches it.
    FILE_ATTRIBUTE_RECALL_ON_DATA_ACCESS = 0x0040_0000, "recall-on-access";
}

/// The names of the bits that are set, lowest first. Unnamed bits follow together, as one hexadecimal number.
pub fn names(attributes: u32) -> Vec<String> {
    let known = NAMES.iter().fold(0, |mask, (bit, _)| mask | bit);
    let named = NAMES.iter().filter(|(bit, _)| attributes & bit != 0).map(|(_, name)| (*name).to_owned());
    let rest = attributes & !known;
    named.chain((rest != 0).then(|| format!("{rest:#x}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_lowest_bit_first_and_unnamed_bits_as_a_number() {
        assert_eq!(names(0x21), ["readonly", "archive"]);
        assert_eq!(names(0x8000_0010), ["directory", "0x80000000"]);
        assert!(names(0).is_empty());
    }

    #[test]
    fn every_name_is_one_bit_and_no_bit_has_two_names() {
        let mut seen = 0;
        for (bit, name) in NAMES {
            assert_eq!(bit.count_ones(), 1, "{name}");
            assert_eq!(seen & bit, 0, "{name}");
            seen |= bit;
        }
    }
}
