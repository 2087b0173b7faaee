//! The descriptor of a new child, compared with Windows' in well-known directories, and rule by rule.

use super::super::sid::tests::any_sid;
use super::super::{Ace, AceBody, Acl, AclSlot, SecurityDescriptor, Sid, ace_flags, ace_types, rights};
use proptest::collection::vec;
use proptest::prelude::*;

const USER: &str = "S-1-5-21-1-2-3-1001";

/// The child's DACL and SACL as text.
fn child(parent: &str, is_directory: bool, owner: &str) -> String {
    let parent = SecurityDescriptor::from_sddl(parent).unwrap();
    let sid = |text| SecurityDescriptor::from_sddl(text).unwrap().owner.unwrap();
    let owner = sid(&format!("O:{owner}"));
    let child = SecurityDescriptor::inherit(&parent, is_directory, &owner, &Sid::SYSTEM);
    assert_eq!((child.owner, child.group), (Some(owner), Some(Sid::SYSTEM)));
    SecurityDescriptor { owner: None, group: None, ..child }.to_sddl().unwrap()
}

fn file(parent: &str) -> String {
    child(parent, false, "BA")
}

fn directory(parent: &str) -> String {
    child(parent, true, "BA")
}

const PROGRAM_FILES: &str = "O:S-1-5-80-1G:S-1-5-80-1D:PAI(A;;FA;;;S-1-5-80-1)(A;CIIO;GA;;;S-1-5-80-1)\
    (A;;0x1301bf;;;SY)(A;OICIIO;GA;;;SY)(A;;0x1301bf;;;BA)(A;OICIIO;GA;;;BA)(A;;0x1200a9;;;BU)\
    (A;OICIIO;GXGR;;;BU)(A;OICIIO;GA;;;CO)(A;;0x1200a9;;;AC)(A;OICIIO;GXGR;;;AC)";

/// As `icacls` shows it for such a directory: (I)(F) and (I)(OI)(CI)(IO)(F) for each, and Administrators
/// once. The parent's ACEs are in the order of `Get-Acl`, which sorts those that are not inherited by SID; on
/// disk the order may differ.
#[test]
fn a_directory_in_program_files() {
    assert_eq!(
        directory(PROGRAM_FILES),
        "D:AI(A;ID;FA;;;S-1-5-80-1)(A;CIIOID;GA;;;S-1-5-80-1)(A;ID;FA;;;SY)(A;OICIIOID;GA;;;SY)(A;ID;FA;;;BA)\
         (A;OICIIOID;GA;;;BA)(A;ID;0x1200a9;;;BU)(A;OICIIOID;GXGR;;;BU)(A;OICIIOID;GA;;;CO)\
         (A;ID;0x1200a9;;;AC)(A;OICIIOID;GXGR;;;AC)"
    );
}

#[test]
fn a_file_in_program_files() {
    assert_eq!(
        file(PROGRAM_FILES),
        "D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)(A;ID;0x1200a9;;;AC)"
    );
}

#[test]
fn a_directory_in_users() {
    let users = "O:SYG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;;0x1200a9;;;BU)(A;OICIIO;GXGR;;;BU)\
                 (A;;0x1200a9;;;WD)(A;OICIIO;GXGR;;;WD)";
    assert_eq!(
        directory(users),
        "D:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;ID;0x1200a9;;;BU)(A;OICIIOID;GXGR;;;BU)\
         (A;ID;0x1200a9;;;WD)(A;OICIIOID;GXGR;;;WD)"
    );
}

/// As `icacls` shows it for such a directory: Authenticated Users get (I)(M) and (I)(OI)(CI)(IO)(M).
#[test]
fn a_directory_in_the_root_of_the_system_drive() {
    let root =
        "D:PAI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICI;0x1200a9;;;BU)(A;OICIIO;SDGXGWGR;;;AU)(A;;LC;;;AU)";
    assert_eq!(
        directory(root),
        "D:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIID;0x1200a9;;;BU)(A;ID;0x1301bf;;;AU)\
         (A;OICIIOID;SDGXGWGR;;;AU)"
    );
    assert_eq!(file(root), "D:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)(A;ID;0x1200a9;;;BU)(A;ID;0x1301bf;;;AU)");
}

/// In the order of `Get-Acl`, which sorts these ACEs by SID: CREATOR OWNER comes first. `Set-Acl` writes this
/// order.
const PROGRAM_DATA: &str = "D:PAI(A;OICIIO;GA;;;CO)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)\
    (A;CI;DCLCRPCR;;;BU)";

/// In the order of `icacls`, which is that on disk.
const PROGRAM_DATA_ON_DISK: &str = "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICIIO;GA;;;CO)\
    (A;OICI;0x1200a9;;;BU)(A;CI;DCLCRPCR;;;BU)";

#[test]
fn creator_owner_becomes_the_owner_unless_he_has_the_right_anyway() {
    let rest = "(A;OICIIOID;GA;;;CO)(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)\
                (A;CIID;DCLCRPCR;;;BU)";
    assert_eq!(child(PROGRAM_DATA, true, "BA"), format!("D:AI{rest}"));
    assert_eq!(child(PROGRAM_DATA, true, USER), format!("D:AI(A;ID;FA;;;{USER}){rest}"));
    let file = "(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)";
    assert_eq!(child(PROGRAM_DATA, false, USER), format!("D:AI(A;ID;FA;;;{USER}){file}"));
    assert_eq!(child(PROGRAM_DATA, false, "BA"), format!("D:AI{file}"));
    let system = "(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)";
    assert_eq!(child(PROGRAM_DATA, false, "SY"), format!("D:AI{system}"));
}

/// The files' listings are in Kubernetes' documentation ("Projected Volumes"): SYSTEM, Administrators, Users.
#[test]
fn the_place_of_creator_owner_in_the_parent_does_not_show_in_an_administrators_file() {
    let expected = "D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)";
    assert_eq!(file(PROGRAM_DATA_ON_DISK), expected);
    assert_eq!(file(PROGRAM_DATA), expected);
    assert_eq!(
        directory(PROGRAM_DATA_ON_DISK),
        "D:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIIOID;GA;;;CO)(A;OICIID;0x1200a9;;;BU)\
         (A;CIID;DCLCRPCR;;;BU)"
    );
    assert_eq!(file("D:AI(A;OICIIO;GA;;;CO)(A;OICI;FA;;;BA)"), "D:AI(A;ID;FA;;;BA)");
    // An ACE with generic rights for Administrators makes a copy as well, but one that names them.
    let generic = "D:AI(A;OICIIO;GA;;;CO)(A;OICI;FA;;;SY)(A;OICIIO;GA;;;BA)";
    assert_eq!(file(generic), "D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)");
    let group = "D:AI(A;OICIIO;GA;;;CG)(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)";
    assert_eq!(file(group), "D:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)");
}

#[test]
fn what_the_parent_says_twice_the_child_says_once() {
    let granted_again = "D:AI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICIID;FA;;;BA)";
    assert_eq!(file(granted_again), "D:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)");
    assert_eq!(directory(granted_again), "D:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)");
    let waiting = "D:AI(A;OICIIO;GA;;;CO)(A;OICIIOID;GA;;;CO)";
    assert_eq!(directory(waiting), "D:AI(A;ID;FA;;;BA)(A;OICIIOID;GA;;;CO)");
    // The ACE that is passed on differs.
    let otherwise = "D:AI(A;CINP;FA;;;BA)(A;OICI;FA;;;BA)";
    assert_eq!(directory(otherwise), "D:AI(A;ID;FA;;;BA)(A;OICIID;FA;;;BA)");
}

/// The most expensive list: 64 KiB, all for the creator and each with other rights.
#[test]
fn a_long_list_is_inherited_in_time_that_grows_with_it() {
    let ace = |mask| Ace::plain(ace_types::ACCESS_ALLOWED, 3, mask, Sid::CREATOR_OWNER);
    let inherit = |count| {
        let dacl = AclSlot::List(Acl::new((0..count).map(ace).collect()));
        let parent = SecurityDescriptor { dacl, ..Default::default() };
        let once = |_| {
            let start = std::time::Instant::now();
            let child = SecurityDescriptor::inherit(&parent, true, &Sid::USERS, &Sid::SYSTEM);
            assert_eq!(child.dacl.list().unwrap().aces.len(), 2 * count as usize);
            start.elapsed()
        };
        // Take the least time, in which nothing else ran.
        (0..20).map(once).min().unwrap()
    };
    let (short, long) = (inherit(100), inherit(3200));
    // Thirty-two times the ACEs: a quadratic algorithm would take a thousand times as long.
    assert!(long < short * 320, "{short:?} for 100 ACEs, {long:?} for 3,200");
}

#[test]
fn creator_group_becomes_the_group() {
    let parent = "D:AI(A;OICIIO;GR;;;CG)(A;CIIO;FX;;;CG)";
    assert_eq!(file(parent), "D:AI(A;ID;FR;;;SY)");
    let expected = "D:AI(A;ID;FR;;;SY)(A;OICIIOID;GR;;;CG)(A;ID;FX;;;SY)(A;CIIOID;FX;;;CG)";
    assert_eq!(directory(parent), expected);
}

#[test]
fn only_the_two_creators_stand_for_somebody_else() {
    let parent = "D:AI(A;OICI;FA;;;OW)(A;OICI;FA;;;PS)(A;OICI;FA;;;S-1-3-2)";
    assert_eq!(file(parent), "D:AI(A;ID;FA;;;OW)(A;ID;FA;;;PS)(A;ID;FA;;;S-1-3-2)");
}

#[test]
fn a_directory_carries_object_inherit_on_for_its_files() {
    let parent = "D:AI(A;OI;GA;;;CO)(A;CI;FR;;;BU)(A;OICI;FX;;;WD)(A;;FW;;;SY)";
    assert_eq!(directory(parent), "D:AI(A;OIIOID;GA;;;CO)(A;CIID;FR;;;BU)(A;OICIID;FX;;;WD)");
    assert_eq!(file(parent), "D:AI(A;ID;FA;;;BA)(A;ID;FX;;;WD)");
}

#[test]
fn no_propagate_ends_with_the_child() {
    let parent = "D:AI(A;OICINP;FR;;;BU)(A;OINP;FW;;;BU)(A;CINPIO;GA;;;CO)(A;OINPIO;GX;;;WD)";
    assert_eq!(directory(parent), "D:AI(A;ID;FR;;;BU)(A;ID;FA;;;BA)");
    assert_eq!(file(parent), "D:AI(A;ID;FR;;;BU)(A;ID;FW;;;BU)(A;ID;FX;;;WD)");
}

#[test]
fn inherit_only_takes_effect_in_the_child() {
    let parent = "D:AI(A;OICIIO;FR;;;BU)(D;OIIO;FW;;;AN)";
    assert_eq!(directory(parent), "D:AI(A;OICIID;FR;;;BU)(D;OIIOID;FW;;;AN)");
    assert_eq!(file(parent), "D:AI(A;ID;FR;;;BU)(D;ID;FW;;;AN)");
}

#[test]
fn an_ace_that_was_inherited_is_inherited_again() {
    assert_eq!(directory("D:AI(A;OICIID;FA;;;SY)(A;ID;FR;;;BU)"), "D:AI(A;OICIID;FA;;;SY)");
}

#[test]
fn without_auto_inheritance_nothing_is_marked_as_inherited() {
    let parent = "O:BAG:SYD:(A;OICI;FA;;;SY)(A;OICIIO;GA;;;CO)(A;OICIID;FR;;;BU)";
    assert_eq!(directory(parent), "D:(A;OICI;FA;;;SY)(A;;FA;;;BA)(A;OICIIO;GA;;;CO)(A;OICI;FR;;;BU)");
}

#[test]
fn protection_of_the_parent_is_not_inherited_and_does_not_hinder() {
    assert_eq!(file("D:P(A;OI;FA;;;SY)"), "D:(A;;FA;;;SY)");
    assert_eq!(file("D:PAI(A;OI;FA;;;SY)"), "D:AI(A;ID;FA;;;SY)");
}

#[test]
fn with_nothing_to_inherit_the_owner_and_system_get_everything() {
    let default = "D:(A;;FA;;;BA)(A;;FA;;;SY)";
    for parent in ["", "D:NO_ACCESS_CONTROL", "D:", "D:PAI", "D:AI(A;;FA;;;SY)", "D:AI(A;CI;FR;;;BU)"] {
        assert_eq!(file(parent), default, "{parent}");
    }
    assert_eq!(directory("D:AI(A;OINP;FR;;;BU)"), default);
    assert_eq!(child("", true, USER), format!("D:(A;;FA;;;{USER})(A;;FA;;;SY)"));
    assert_eq!(child("", false, "SY"), "D:(A;;FA;;;SY)");
}

#[test]
fn audits_and_labels_are_inherited_by_the_same_rules() {
    let parent = "D:AI(A;OICI;FA;;;SY)S:AI(AU;OICIIOSAFA;GW;;;WD)(AU;SA;FR;;;BU)(ML;OICI;NW;;;LW)";
    assert_eq!(file(parent), "D:AI(A;ID;FA;;;SY)S:AI(AU;IDSAFA;FW;;;WD)(ML;ID;NW;;;LW)");
    assert_eq!(
        directory(parent),
        "D:AI(A;OICIID;FA;;;SY)S:AI(AU;IDSAFA;FW;;;WD)(AU;OICIIOIDSAFA;GW;;;WD)(ML;OICIID;NW;;;LW)"
    );
    assert_eq!(file("S:(ML;OI;NW;;;HI)"), "D:(A;;FA;;;BA)(A;;FA;;;SY)S:(ML;;NW;;;HI)");
    assert_eq!(file("S:AI(ML;;NW;;;HI)"), "D:(A;;FA;;;BA)(A;;FA;;;SY)");
}

#[test]
fn aces_for_a_kind_of_object_have_no_effect_on_files() {
    let kind = "bf967aba-0de6-11d0-a285-00aa003049e2";
    let parent = format!("D:AI(OA;OICI;RP;;{kind};SY)(OA;OICI;WP;{kind};;BU)");
    assert_eq!(file(&parent), format!("D:AI(OA;ID;WP;{kind};;BU)"));
    let expected = format!("D:AI(OA;OICIIOID;RP;;{kind};SY)(OA;OICIID;WP;{kind};;BU)");
    assert_eq!(directory(&parent), expected);
}

#[test]
fn a_repetition_beyond_a_denial_is_kept_because_order_matters() {
    let parent = "D:AI(A;OI;FA;;;BA)(D;OI;FW;;;BA)(A;OIIO;GA;;;CO)";
    assert_eq!(file(parent), "D:AI(A;ID;FA;;;BA)(D;ID;FW;;;BA)(A;ID;FA;;;BA)");
}

#[test]
fn a_condition_is_inherited_with_its_ace() {
    let conditional = |flags, sid| Ace {
        ace_type: ace_types::ACCESS_ALLOWED_CALLBACK,
        flags,
        body: AceBody::Plain { mask: rights::FILE_ALL, sid, extra: b"artx\xf8\0\0\0".to_vec() },
    };
    let list = |ace| AclSlot::List(Acl::new(vec![ace]));
    let dacl = list(conditional(ace_flags::OBJECT_INHERIT, Sid::CREATOR_OWNER));
    let parent = SecurityDescriptor { dacl, ..Default::default() };
    let child = SecurityDescriptor::inherit(&parent, false, &Sid::USERS, &Sid::SYSTEM);
    assert_eq!(child.dacl, list(conditional(0, Sid::USERS)));
}

#[test]
fn an_ace_of_an_unknown_type_is_inherited_as_it_is() {
    let unknown = |flags| Ace { ace_type: 0x77, flags, body: AceBody::Raw(vec![1, 2, 3, 4]) };
    let list = |ace| AclSlot::List(Acl::new(vec![ace]));
    let dacl = list(unknown(ace_flags::CONTAINER_INHERIT));
    let parent = SecurityDescriptor { dacl: dacl.clone(), ..Default::default() };
    let child = SecurityDescriptor::inherit(&parent, true, &Sid::USERS, &Sid::SYSTEM);
    assert_eq!(child.dacl, dacl);
}

fn any_ace() -> impl Strategy<Value = Ace> {
    let masks = prop_oneof![any::<u32>(), Just(rights::GENERIC_ALL), Just(rights::FILE_ALL)];
    let sids = prop_oneof![any_sid(), Just(Sid::CREATOR_OWNER), Just(Sid::USERS)];
    (0..3_u8, any::<u8>(), masks, sids)
        .prop_map(|(kind, flags, mask, sid)| Ace::plain(kind, flags, mask, sid))
}

proptest! {
    #[test]
    fn what_takes_effect_is_concrete_and_the_result_can_be_written(
        aces in vec(any_ace(), 0..12),
        is_directory: bool,
        control: u16,
    ) {
        let parent = SecurityDescriptor { control, dacl: AclSlot::List(Acl::new(aces)), ..Default::default() };
        let child = SecurityDescriptor::inherit(&parent, is_directory, &Sid::USERS, &Sid::SYSTEM);
        let generic = rights::GENERIC_ALL | rights::GENERIC_READ | rights::GENERIC_WRITE | rights::GENERIC_EXECUTE;
        for ace in child.dacl.list().unwrap().aces.iter().filter(|ace| ace.is_effective()) {
            prop_assert_eq!(ace.mask().unwrap() & generic, 0);
            prop_assert_ne!(ace.sid(), Some(&Sid::CREATOR_OWNER));
        }
        prop_assert_eq!(SecurityDescriptor::parse(&child.to_bytes().unwrap()), Ok(child));
    }

    #[test]
    fn a_file_never_passes_anything_on(aces in vec(any_ace(), 0..12)) {
        let parent = SecurityDescriptor { dacl: AclSlot::List(Acl::new(aces)), ..Default::default() };
        let child = SecurityDescriptor::inherit(&parent, false, &Sid::USERS, &Sid::SYSTEM);
        let passing_on = ace_flags::OBJECT_INHERIT | ace_flags::CONTAINER_INHERIT | ace_flags::INHERIT_ONLY;
        prop_assert!(child.dacl.list().unwrap().aces.iter().all(|ace| ace.flags & passing_on == 0));
    }
}
