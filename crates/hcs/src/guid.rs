//! GUIDs, by which the compute service names layers.

use std::fmt;

/// A GUID with the layout of `GUID` in guiddef.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Guid {
    /// First group.
    pub data1: u32,
    /// Second group.
    pub data2: u16,
    /// Third group.
    pub data3: u16,
    /// Fourth and fifth group.
    pub data4: [u8; 8],
}
const _: () = assert!(size_of::<Guid>() == 16);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:04x}-{:04x}-", self.data1, self.data2, self.data3)?;
        for (index, byte) in self.data4.iter().enumerate() {
            if index == 2 {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_printed_in_its_usual_form() {
        let guid = Guid {
            data1: 0x6ba7_b810,
            data2: 0x9dad,
            data3: 0x11d1,
            data4: [0x80, 0xb4, 0, 0xc0, 0x4f, 0xd4, 0x30, 0xc8],
        };
        assert_eq!(guid.to_string(), "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    }
}
