//! Inheritance: the descriptor NTFS gives a new file or directory whose creator brings none.
//!
//! The rules are `ComputeACL` and `PostProcessACL` of \[MS-DTYP\] 2.5.3.4, completed by what Windows does
//! where the pseudocode is silent or differs, as seen in the ACLs of real directories (golden tests below):
//!
//! * A **file** takes the ACEs marked OI, a **directory** those marked CI; a directory also carries OI-only
//!   ACEs on for its files, as IO. NP ends the line: the child does not pass the ACE on.
//! * What takes effect is made concrete: CREATOR OWNER and CREATOR GROUP become owner and group, generic
//!   rights become file rights. If that changes an ACE which a directory also passes on, it gets both: the
//!   concrete one, and the original as IO for its own children.
//! * A concrete copy that says nothing new is left out: another ACE of the same type, rights and SID has
//!   effect, and nothing of another type lies between. So an administrator's directory under `Program
//!   Files` has one ACE for Administrators, not two.
//! * The ID flag and the AI control bits appear if the parent's list has AI, which it has on every volume
//!   that Windows set up (Samba's `acl flag inherited canonicalization` documents the same for its DI flag).
//! * Whether the parent is protected (P) only concerns its own parent.
//! * Without anything to inherit (an empty or NULL DACL included) the DACL is the creator's default: here
//!   SYSTEM and Administrators, full access, which is what both of them have in their tokens. There is no
//!   default SACL; a missing integrity label means medium.

use super::ace::{Ace, AceBody};
use super::descriptor::{AclSlot, SecurityDescriptor, control};
use super::{Acl, Sid, ace_flags, ace_types, rights};

/// Flags about inheritance; the rest are about auditing and stay.
const INHERITANCE: u8 = ace_flags::OBJECT_INHERIT
    | ace_flags::CONTAINER_INHERIT
    | ace_flags::NO_PROPAGATE_INHERIT
    | ace_flags::INHERIT_ONLY
    | ace_flags::INHERITED;

impl SecurityDescriptor {
    /// What NTFS gives a new child of a directory with the descriptor `parent`, created by `owner` with the
    /// primary group `group` without naming a descriptor.
    pub fn inherit(
        parent: &SecurityDescriptor,
        is_directory: bool,
        owner: &Sid,
        group: &Sid,
    ) -> SecurityDescriptor {
        let child = Child { is_directory, owner, group };
        let mut control = 0;
        let mut inherit = |slot: &AclSlot, auto_inherited| {
            let auto = parent.control & auto_inherited;
            let acl = child.inherit_list(slot.list()?, auto != 0)?;
            control |= auto;
            Some(AclSlot::List(acl))
        };
        let dacl = inherit(&parent.dacl, control::DACL_AUTO_INHERITED);
        let sacl = inherit(&parent.sacl, control::SACL_AUTO_INHERITED);
        SecurityDescriptor {
            control,
            resource_manager: 0,
            owner: Some(*owner),
            group: Some(*group),
            sacl: sacl.unwrap_or(AclSlot::Absent),
            dacl: dacl.unwrap_or_else(|| AclSlot::List(default_dacl())),
        }
    }
}

/// What the tokens of SYSTEM and of an administrator have as default DACL, without the logon session.
fn default_dacl() -> Acl {
    let full = |sid| Ace::plain(ace_types::ACCESS_ALLOWED, 0, rights::FILE_ALL, sid);
    Acl::new(vec![full(Sid::SYSTEM), full(Sid::ADMINISTRATORS)])
}

/// What is to be created.
struct Child<'a> {
    is_directory: bool,
    owner: &'a Sid,
    group: &'a Sid,
}

/// An ACE of the child.
struct Inherited {
    ace: Ace,
    /// It was made concrete, so it may repeat what another ACE says.
    concrete: bool,
}

impl Child<'_> {
    /// The child's list, or `None` if nothing in the parent's list is for it.
    fn inherit_list(&self, parent: &Acl, auto: bool) -> Option<Acl> {
        let mut list = Vec::new();
        for ace in &parent.aces {
            self.inherit_ace(ace, auto, &mut list);
        }
        let aces = without_repetitions(list);
        (!aces.is_empty()).then_some(Acl { revision: parent.revision, aces })
    }

    /// Appends what the child gets of one ACE: nothing, the ACE, or two of them.
    fn inherit_ace(&self, ace: &Ace, auto: bool, list: &mut Vec<Inherited>) {
        let for_children = ace.flags & (ace_flags::OBJECT_INHERIT | ace_flags::CONTAINER_INHERIT);
        let for_this =
            if self.is_directory { ace_flags::CONTAINER_INHERIT } else { ace_flags::OBJECT_INHERIT };
        let applies = for_children & for_this != 0 && !is_for_other_objects(ace);
        let passes_on =
            self.is_directory && for_children != 0 && ace.flags & ace_flags::NO_PROPAGATE_INHERIT == 0;
        let flags = ace.flags & !INHERITANCE | if auto { ace_flags::INHERITED } else { 0 };
        let effective = self.concrete(ace);
        let unchanged = effective == ace.body;
        let mut push = |flags, body, concrete| {
            list.push(Inherited { ace: Ace { ace_type: ace.ace_type, flags, body }, concrete });
        };
        match (applies, passes_on) {
            (false, false) => {}
            (true, true) if unchanged => push(flags | for_children, effective, false),
            (true, false) => push(flags, effective, !unchanged),
            (_, true) => {
                if applies {
                    push(flags, effective, true);
                }
                push(flags | for_children | ace_flags::INHERIT_ONLY, ace.body.clone(), false);
            }
        }
    }

    /// The body with creator SIDs and generic rights replaced by what they stand for on this child.
    fn concrete(&self, ace: &Ace) -> AceBody {
        let mut body = ace.body.clone();
        if let AceBody::Plain { mask, sid, .. } | AceBody::Object { mask, sid, .. } = &mut body {
            *mask = map_generic(*mask);
            match *sid {
                Sid::CREATOR_OWNER => *sid = *self.owner,
                Sid::CREATOR_GROUP => *sid = *self.group,
                _ => {}
            }
        }
        body
    }
}

/// Whether only another kind of object inherits the ACE. Files and directories have no kind in this sense.
fn is_for_other_objects(ace: &Ace) -> bool {
    matches!(ace.body, AceBody::Object { inherited_object_type: Some(_), .. })
}

/// The rights on a file that the generic ones stand for. Source: `IoGetFileObjectGenericMapping`.
fn map_generic(mask: u32) -> u32 {
    let mapping = [
        (rights::GENERIC_ALL, rights::FILE_ALL),
        (rights::GENERIC_EXECUTE, rights::FILE_EXECUTE),
        (rights::GENERIC_WRITE, rights::FILE_WRITE),
        (rights::GENERIC_READ, rights::FILE_READ),
    ];
    mapping.iter().fold(
        mask,
        |mask, (generic, file)| {
            if mask & generic == 0 { mask } else { mask & !generic | file }
        },
    )
}

/// Leaves out concrete copies that say nothing new.
fn without_repetitions(list: Vec<Inherited>) -> Vec<Ace> {
    let repeats = |index: usize| {
        let Inherited { ace, concrete } = &list[index];
        // Neighbours of the same type only: across an ACE of another type, order would matter.
        let same_type = |other: &&Inherited| other.ace.ace_type == ace.ace_type;
        let mut before = list[..index].iter().rev().take_while(same_type);
        let mut after = list[index + 1..].iter().take_while(same_type);
        *concrete
            && (before.any(|other| covers(&other.ace, ace))
                // Of two equal ones the first stays.
                || after.any(|other| covers(&other.ace, ace) && other.ace.flags != ace.flags))
    };
    let keep: Vec<bool> = (0..list.len()).map(|index| !repeats(index)).collect();
    list.into_iter().zip(keep).filter_map(|(inherited, keep)| keep.then_some(inherited.ace)).collect()
}

/// Whether `other` has at least the effect of `ace`, which is of the same type and is not passed on.
fn covers(other: &Ace, ace: &Ace) -> bool {
    other.is_effective() && other.flags & ace.flags == ace.flags && other.body == ace.body
}

#[cfg(test)]
mod tests;
