//! Descriptors as bytes: round trips, and the errors of damaged ones.

use super::super::ace::{Ace, AceBody};
use super::super::sid::tests::any_sid;
use super::super::{Acl, AclSlot, SecurityDescriptor, SecurityError, Sid, ace_types};
use proptest::collection::vec;
use proptest::prelude::*;

/// A descriptor of 20 + 16 + 12 + 28 + 36 bytes: owner BA, group SY, a label and one ACE for BU.
fn bytes() -> Vec<u8> {
    SecurityDescriptor::from_sddl("O:BAG:SYD:(A;;FA;;;SY)S:(ML;;NW;;;HI)").unwrap().to_bytes().unwrap()
}

const SACL: usize = 20 + 16 + 12;
const DACL: usize = SACL + 8 + 20;

fn patched(offset: usize, patch: &[u8]) -> Result<SecurityDescriptor, SecurityError> {
    let mut bytes = bytes();
    bytes[offset..offset + patch.len()].copy_from_slice(patch);
    SecurityDescriptor::parse(&bytes)
}

#[test]
fn every_cut_of_a_descriptor_is_refused() {
    let bytes = bytes();
    for length in 0..bytes.len() {
        let error = SecurityDescriptor::parse(&bytes[..length]);
        assert!(matches!(error, Err(SecurityError::Truncated { .. })), "{length}: {error:?}");
    }
    assert!(SecurityDescriptor::parse(&bytes).is_ok());
}

#[test]
fn a_descriptor_with_pointers_or_another_revision_is_refused() {
    assert!(matches!(patched(0, &[2]), Err(SecurityError::Revision { revision: 2, .. })));
    let pointers = SecurityError::NotSelfRelative { control: 0x0014 };
    assert_eq!(patched(2, &[0x14, 0x00]), Err(pointers));
}

#[test]
fn errors_name_the_part_and_its_place() {
    let message = |result: Result<SecurityDescriptor, SecurityError>| result.unwrap_err().to_string();
    assert_eq!(
        message(patched(4, &[0xff, 0xff, 0xff, 0x7f])),
        "owner at offset 0x7fffffff needs 8 bytes, 0 are there"
    );
    assert_eq!(message(patched(20, &[2])), "owner at offset 0x14 has revision 2");
    assert_eq!(
        message(patched(21, &[200])),
        "owner at offset 0x14 has 200 sub-authorities, at most 15 are possible"
    );
    assert_eq!(message(patched(DACL, &[9])), "DACL at offset 0x4c has revision 9");
    assert_eq!(
        message(patched(DACL + 2, &[7, 0])),
        "DACL at offset 0x4c says it has 7 bytes, which is less than its header"
    );
    assert_eq!(message(patched(DACL + 2, &[0, 1])), "DACL at offset 0x4c needs 256 bytes, 28 are there");
    assert_eq!(
        message(patched(DACL + 4, &[2])),
        "ACE 1 of the DACL at offset 0x68 needs 4 bytes, 0 are there"
    );
    assert_eq!(
        message(patched(DACL + 10, &[3])),
        "ACE 0 of the DACL at offset 0x54 says it has 3 bytes, which is less than its header"
    );
    assert_eq!(
        message(patched(DACL + 10, &[16])),
        "SID of ACE 0 of the DACL at offset 0x5c needs 12 bytes, 8 are there"
    );
}

#[test]
fn a_list_without_its_control_bit_is_absent() {
    let descriptor = patched(2, &[0x00, 0x80]).unwrap();
    assert_eq!((descriptor.dacl, descriptor.sacl), (AclSlot::Absent, AclSlot::Absent));
}

#[test]
fn a_null_dacl_is_not_an_empty_one() {
    let null = SecurityDescriptor { dacl: AclSlot::Null, ..Default::default() };
    let empty = SecurityDescriptor { dacl: AclSlot::List(Acl::new(Vec::new())), ..Default::default() };
    let absent = SecurityDescriptor::default();
    for descriptor in [null, empty, absent] {
        assert_eq!(SecurityDescriptor::parse(&descriptor.to_bytes().unwrap()), Ok(descriptor));
    }
}

#[test]
fn parts_in_another_order_mean_the_same() {
    // In NTFS' order: lists first.
    let lists_first =
        "010004840000000000000000000000001400000002001c000100000000101400ff011f00010100000000000512000000";
    let mut bytes = hex::decode(lists_first).unwrap();
    let owner = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&owner.to_le_bytes());
    bytes.extend(Sid::ADMINISTRATORS.to_bytes());
    let descriptor = SecurityDescriptor::parse(&bytes).unwrap();
    assert_eq!(descriptor.to_sddl().unwrap(), "O:BAD:AI(A;ID;FA;;;SY)");
    assert_eq!(SecurityDescriptor::parse(&descriptor.to_bytes().unwrap()), Ok(descriptor));
}

#[test]
fn a_list_that_exceeds_its_size_field_cannot_be_written() {
    let ace = Ace::plain(ace_types::ACCESS_ALLOWED, 0, 1, Sid::EVERYONE);
    let dacl = AclSlot::List(Acl::new(vec![ace; 4_000]));
    let descriptor = SecurityDescriptor { dacl, ..Default::default() };
    assert!(matches!(descriptor.to_bytes(), Err(SecurityError::TooLarge { count: 80_008, .. })));
}

fn any_body(ace_type: u8) -> BoxedStrategy<AceBody> {
    let extra = || vec(any::<u8>(), 0..20);
    let guid = || proptest::option::of(any::<[u8; 16]>());
    match ace_type {
        0..=3 | 9 | 10 | 13 | 14 | 0x11..=0x15 => (any::<u32>(), any_sid(), extra())
            .prop_map(|(mask, sid, extra)| AceBody::Plain { mask, sid, extra })
            .boxed(),
        5..=8 | 11 | 12 | 15 | 16 => (any::<u32>(), guid(), guid(), any_sid(), extra())
            .prop_map(|(mask, object_type, inherited_object_type, sid, extra)| AceBody::Object {
                mask,
                object_type,
                inherited_object_type,
                sid,
                extra,
            })
            .boxed(),
        _ => extra().prop_map(AceBody::Raw).boxed(),
    }
}

fn any_slot() -> impl Strategy<Value = AclSlot> {
    let ace = (0..0x20_u8, any::<u8>()).prop_flat_map(|(ace_type, flags)| {
        any_body(ace_type).prop_map(move |body| Ace { ace_type, flags, body })
    });
    let list = (2..=4_u8, vec(ace, 0..6)).prop_map(|(revision, aces)| AclSlot::List(Acl { revision, aces }));
    prop_oneof![1 => Just(AclSlot::Absent), 1 => Just(AclSlot::Null), 4 => list]
}

prop_compose! {
    fn any_descriptor()(
        control: u16,
        resource_manager: u8,
        owner in proptest::option::of(any_sid()),
        group in proptest::option::of(any_sid()),
        sacl in any_slot(),
        dacl in any_slot(),
    ) -> SecurityDescriptor {
        let control = control & !super::DERIVED;
        SecurityDescriptor { control, resource_manager, owner, group, sacl, dacl }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_and_is_written_the_same(descriptor in any_descriptor()) {
        let bytes = descriptor.to_bytes().unwrap();
        let again = SecurityDescriptor::parse(&bytes).unwrap();
        prop_assert_eq!(again.to_bytes().unwrap(), bytes);
        prop_assert_eq!(again, descriptor);
    }

    #[test]
    fn a_damaged_descriptor_is_read_or_refused_and_never_grows(
        descriptor in any_descriptor(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = descriptor.to_bytes().unwrap();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(descriptor) = SecurityDescriptor::parse(&bytes) {
            // Parts may overlap, so four parts of the whole length are the most that can come out.
            prop_assert!(descriptor.to_bytes().unwrap().len() <= 4 * (bytes.len() + 4));
            let _ = descriptor.to_sddl();
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..120)) {
        let bytes = [&[1, 0, 0x14, 0x80][..], &bytes].concat();
        let _ = SecurityDescriptor::parse(&bytes);
    }
}
