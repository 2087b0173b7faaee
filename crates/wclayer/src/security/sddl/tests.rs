//! Descriptors as text: Windows' output survives a round trip, and errors name the place.

use super::super::sid::tests::any_sid;
use super::super::{Ace, AceBody, Acl, AclSlot, SecurityDescriptor, Sid, ace_types, control};
use super::{SddlError, tables};
use proptest::collection::vec;
use proptest::prelude::*;

mod conditions;

fn read(text: &str) -> SecurityDescriptor {
    SecurityDescriptor::from_sddl(text).unwrap()
}

#[test]
fn text_that_windows_prints_comes_back_as_it_was() {
    let texts = [
        "",
        "O:BA",
        "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICIIO;GA;;;CO)(A;OICIIO;SDGXGWGR;;;AU)(A;CI;DCLCRPCR;;;BU)",
        "D:AI(A;ID;0x1301bf;;;S-1-5-21-1-2-3-1001)(D;;WD;;;AN)",
        "D:",
        "D:PARAI",
        "D:NO_ACCESS_CONTROL",
        "D:PNO_ACCESS_CONTROL",
        "S:PAI(AU;OICISAFA;DCLCRPCRSDWDWO;;;WD)(ML;OICI;NWNR;;;HI)",
        "S:(SP;;;;;S-1-17-1)(TL;;CC;;;S-1-19-512-4096)",
        "D:(OA;CI;RP;bf967a9c-0de6-11d0-a285-00aa003049e2;bf967aba-0de6-11d0-a285-00aa003049e2;PS)",
        "O:S-1-0x00ffffffffff-1G:UDD:(A;;KA;;;AC)(A;;KR;;;S-1-15-2-2)(A;;;;;LW)",
    ];
    for text in texts {
        assert_eq!(read(text).to_sddl().as_deref(), Ok(text));
    }
}

#[test]
fn null_empty_and_missing_lists_are_three_things() {
    assert_eq!(read("O:SY").dacl, AclSlot::Absent);
    assert_eq!(read("D:NO_ACCESS_CONTROL").dacl, AclSlot::Null);
    assert_eq!(read("D:").dacl, AclSlot::List(Acl::new(Vec::new())));
}

#[test]
fn rights_may_be_numbers_of_any_base() {
    for text in ["0x1F01ff", "2032127", "07600777", "FA", "CCDCLCSWRPWPDTLOCRSDRCWDWOFA"] {
        assert_eq!(read(&format!("D:(A;;{text};;;SY)")), read("D:(A;;FA;;;SY)"), "{text}");
    }
}

#[test]
fn parts_come_in_any_order_and_spaces_may_surround_them() {
    let expected = read("O:BAG:SYD:P(A;;FA;;;SY)(A;;FA;;;BA)");
    assert_eq!(read("  D:P(A;;FA;;;SY) (A;;FA;;;BA) G:SY O:BA\n"), expected);
}

/// As Samba recorded it on Windows (`libcli/security/tests/windows/windows_is_less_fussy.txt`,
/// `non_canonical.txt`).
#[test]
fn blanks_and_hexadecimal_numbers_are_read_where_windows_reads_them() {
    for (text, expected) in [
        ("D: P(A;;GA;;;SY)", "D:P(A;;GA;;;SY)"),
        ("D: AI (A;;GA;;;SY)", "D:AI(A;;GA;;;SY)"),
        ("D: S:", "D:S:"),
        ("D:(A; ;GA;;;SY)", "D:(A;;GA;;;SY)"),
        ("D:(A;; GA;;;SY)", "D:(A;;GA;;;SY)"),
        ("D:(A;; 0x75bcd15;;;SY)", "D:(A;;0x75bcd15;;;SY)"),
        ("D:(A;;GA; ; ; WD )", "D:(A;;GA;;;WD)"),
        ("D:AI(A; CI;RP LCLO  RC;;;AU)", "D:AI(A;CI;LCRPLORC;;;AU)"),
        ("O:S-1-5-0x12G:S-1-3-0xffffffff-3-4", "O:SYG:S-1-3-4294967295-3-4"),
    ] {
        assert_eq!(read(text).to_sddl().as_deref(), Ok(expected), "{text}");
    }
    let refused =
        ["D:(A;;GA ;;;SY)", "D:(A;;0x 75bcd15;;;SY)", "D:AI(A;CI;RP LCLOR C;;;AU)", "D :(A;;GA;;;SY)"];
    for text in refused.into_iter().chain(["D:(A;;GA;;;S-1-3-4;)", "O:S- 1-2-3", "D:P:S:"]) {
        assert!(SecurityDescriptor::from_sddl(text).is_err(), "{text}");
    }
}

#[test]
fn accounts_of_a_domain_need_the_domain() {
    let text = "O:DAG:DUD:(A;;FA;;;LA)";
    let error = SddlError::Domain { position: 2, alias: "DA".to_owned() };
    assert_eq!(SecurityDescriptor::from_sddl(text), Err(error));
    let domain: Sid = "S-1-5-21-1-2-3".parse().unwrap();
    let descriptor = SecurityDescriptor::from_sddl_in_domain(text, &domain).unwrap();
    let expected = "O:S-1-5-21-1-2-3-512G:S-1-5-21-1-2-3-513D:(A;;FA;;;S-1-5-21-1-2-3-500)";
    assert_eq!(descriptor.to_sddl().as_deref(), Ok(expected));
}

#[test]
fn what_is_wrong_is_named_with_its_position() {
    let text = |text: &str| text.to_owned();
    let errors = [
        ("o:ba", SddlError::Part { position: 0, found: text("o:ba") }),
        ("O:BAx", SddlError::Sid { position: 2, text: text("BAx") }),
        ("O:", SddlError::Sid { position: 2, text: text("") }),
        ("O:BAO:SY", SddlError::Repeated { position: 4, part: 'O' }),
        ("D:(A;;FA;;;SY)x", SddlError::Part { position: 14, found: text("x") }),
        ("D:(A;;FA;;;SY", SddlError::Unclosed { position: 2 }),
        ("D:(", SddlError::Unclosed { position: 2 }),
        ("D:(A;;FA;;SY)", SddlError::Fields { position: 2, count: 5 }),
        ("D:(A;;FA;;;SY;)", SddlError::Fields { position: 2, count: 7 }),
        ("D:(Q;;FA;;;SY)", SddlError::AceType { position: 3, text: text("Q") }),
        ("D:(A;OICX;FA;;;SY)", SddlError::AceFlags { position: 5, text: text("OICX") }),
        ("D:(A;OIC;FA;;;SY)", SddlError::AceFlags { position: 5, text: text("OIC") }),
        ("D:(A;;FAX;;;SY)", SddlError::Rights { position: 6, text: text("FAX") }),
        ("D:(A;;0x;;;SY)", SddlError::Rights { position: 6, text: text("0x") }),
        ("D:(A;;0x1ffffffff;;;SY)", SddlError::Rights { position: 6, text: text("0x1ffffffff") }),
        ("D:(A;;0x+1;;;SY)", SddlError::Rights { position: 6, text: text("0x+1") }),
        ("D:(A;;é;;;SY)", SddlError::Rights { position: 6, text: text("é") }),
        ("D:(A;;FA;;;SYé)", SddlError::Sid { position: 11, text: text("SYé") }),
        ("D:(OA;;CR;1234;;WD)", SddlError::Guid { position: 10, text: text("1234") }),
        (
            "D:(A;;FA;;bf967aba-0de6-11d0-a285-00aa003049e2;WD)",
            SddlError::Guid { position: 10, text: text("bf967aba-0de6-11d0-a285-00aa003049e2") },
        ),
        ("D:(A;;FA;;;SY;(@User.x))", SddlError::Fields { position: 2, count: 7 }),
        ("D:(XA;;FA;;;SY)", SddlError::Fields { position: 2, count: 6 }),
        ("D:(A;;GA ;;;SY)", SddlError::Rights { position: 6, text: text("GA ") }),
        ("D:(FL;;FX;;;WD;(@User.x==1))", SddlError::Unsupported { position: 3, text: text("FL") }),
    ];
    for (sddl, error) in errors {
        assert_eq!(SecurityDescriptor::from_sddl(sddl), Err(error), "{sddl}");
    }
}

#[test]
fn an_ace_without_text_is_named() {
    let conditional = Ace {
        ace_type: ace_types::ACCESS_ALLOWED_CALLBACK,
        flags: 0,
        body: AceBody::Plain { mask: 1, sid: Sid::EVERYONE, extra: b"what".to_vec() },
    };
    let plain = Ace::plain(ace_types::ACCESS_ALLOWED, 0, 1, Sid::EVERYONE);
    let dacl = AclSlot::List(Acl::new(vec![plain, conditional]));
    let descriptor = SecurityDescriptor { dacl, ..Default::default() };
    let error = descriptor.to_sddl().unwrap_err();
    assert_eq!(
        error.to_string(),
        "ACE 1 of the DACL (type 0x09) has no text form: its condition is none that SDDL can express"
    );
}

#[test]
fn every_alias_is_two_letters_and_unique() {
    let fixed = tables::SIDS.iter().chain([&tables::USER_MODE_DRIVERS]).map(|(alias, _)| *alias);
    let mut all: Vec<&str> = fixed.chain(tables::DOMAIN_RIDS.iter().map(|(alias, _)| *alias)).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
    assert!(all.iter().all(|alias| alias.len() == 2));
    assert!(tables::SIDS.iter().all(|(alias, sid)| read(&format!("O:{alias}")).owner == Some(*sid)));
}

fn any_ace() -> impl Strategy<Value = Ace> {
    let guid = || proptest::option::of(any::<[u8; 16]>());
    let forms = proptest::sample::select(&tables::ACE_TYPES[..]);
    let parts = (forms, any::<u8>(), any::<u32>(), guid(), guid(), any_sid());
    let parts = (parts, conditions::any_condition(), conditions::any_claim());
    parts.prop_map(|(parts, condition, claim)| {
        let ((_, ace_type, form), flags, mask, object_type, inherited_object_type, sid) = parts;
        let extra = match form {
            tables::Form::Plain | tables::Form::Object => Vec::new(),
            tables::Form::ResourceAttribute => claim,
            tables::Form::Conditional | tables::Form::ConditionalObject => condition,
        };
        let body = match form.has_guids() {
            true => AceBody::Object { mask, object_type, inherited_object_type, sid, extra },
            false => AceBody::Plain { mask, sid, extra },
        };
        Ace { ace_type, flags, body }
    })
}

fn any_slot() -> impl Strategy<Value = AclSlot> {
    let list = vec(any_ace(), 0..5).prop_map(|aces| AclSlot::List(Acl::new(aces)));
    prop_oneof![Just(AclSlot::Absent), Just(AclSlot::Null), list]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        owner in proptest::option::of(any_sid()),
        group in proptest::option::of(any_sid()),
        sacl in any_slot(),
        dacl in any_slot(),
        flags: [bool; 6],
    ) {
        let bits = tables::ACL_FLAGS.iter().flat_map(|(_, dacl, sacl)| [*dacl, *sacl]);
        let mut control = bits.zip(flags).filter(|(_, set)| *set).fold(0, |all, (bit, _)| all | bit);
        let of_dacl = control::DACL_PROTECTED | control::DACL_AUTO_INHERIT_REQ | control::DACL_AUTO_INHERITED;
        // Flags of an absent list have no place in text.
        control &= if dacl == AclSlot::Absent { !of_dacl } else { u16::MAX };
        control &= if sacl == AclSlot::Absent { of_dacl } else { u16::MAX };
        let descriptor = SecurityDescriptor { control, resource_manager: 0, owner, group, sacl, dacl };
        let text = descriptor.to_sddl().unwrap();
        prop_assert_eq!(SecurityDescriptor::from_sddl(&text), Ok(descriptor), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "([OGDS]:|[AP();]|OI|FA|SY|0x1|S-1-5|[^a]){0,30}") {
        if let Ok(descriptor) = SecurityDescriptor::from_sddl(&text) {
            let printed = descriptor.to_sddl().unwrap();
            prop_assert_eq!(SecurityDescriptor::from_sddl(&printed), Ok(descriptor));
        }
    }
}
