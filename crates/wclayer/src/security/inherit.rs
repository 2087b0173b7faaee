//! Inheritance: the descriptor that NTFS gives a new file or directory if its creator passes none.
//!
//! The rules are `ComputeACL` and `PostProcessACL` of \[MS-DTYP\] 2.5.3.4, completed by Windows' behaviour
//! where the pseudocode is silent or differs, as seen in the ACLs of real directories (golden tests below):
//!
//! * A **file** takes the ACEs marked OI, a **directory** those marked CI; a directory also keeps OI-only
//!   ACEs for its files, as IO. With NP the child does not pass the ACE on.
//! * An ACE that takes effect is made concrete: CREATOR OWNER and CREATOR GROUP become owner and group,
//!   generic rights become file rights. If that changes an ACE which a directory also passes on, it gets
//!   both: the concrete one, and the original as IO for its own children.
//! * No ACE comes twice. Of equal ones without an ACE of another type between them (where order would matter)
//!   one stays: preferably the one that the parent has unchanged, then one that had only its rights mapped,
//!   then the creator's; of several of a kind the first. So an administrator's directory under
//!   `Program Files` has one ACE for Administrators, and its place does not depend on where the parent has
//!   CREATOR OWNER. Samba also keeps one (`se_create_child_secdesc`).
//! * A concrete copy is also dropped if an ACE with the same rights and SID both takes effect and is passed
//!   on.
//! * The ID flag and the AI control bits appear if the parent's list has AI, which it has on every volume
//!   that Windows set up (Samba's `acl flag inherited canonicalization` documents the same for its DI flag).
//! * Whether the parent is protected (P) only concerns its own parent.
//! * Without anything to inherit (an empty or NULL DACL included) the DACL is the default of the creator's
//!   token, and not marked as inherited: the owner and SYSTEM have full access (`default_dacl`). There is no
//!   default SACL; a missing integrity label means medium.

use std::collections::{BTreeMap, HashMap};

use super::ace::{Ace, AceBody};
use super::descriptor::{AclSlot, SecurityDescriptor, control};
use super::{Acl, Sid, ace_flags, ace_types, rights};

/// Flags of inheritance; the others, of auditing, are kept.
const INHERITANCE: u8 = ace_flags::OBJECT_INHERIT
    | ace_flags::CONTAINER_INHERIT
    | ace_flags::NO_PROPAGATE_INHERIT
    | ace_flags::INHERIT_ONLY
    | ace_flags::INHERITED;

impl SecurityDescriptor {
    /// The descriptor that NTFS gives a new child of a directory with the descriptor `parent`, if `owner`
    /// with the primary group `group` creates it without passing a descriptor.
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
            dacl: dacl.unwrap_or_else(|| AclSlot::List(default_dacl(owner))),
        }
    }
}

/// The default DACL in the token of a user whose files `owner` owns, without the logon session.
///
/// An administrator's is `(A;;FA;;;BA)(A;;FA;;;SY)`, the owner first, as Windows gave it in smbtorture's test
/// of inheritance (Samba, `source4/torture/raw/acls.c`, `sd_def` of `test_inheritance`). SYSTEM's own token
/// has `(A;;FA;;;SY)(A;;0x1200a9;;;BA)` (ReactOS, `kmtests/ntos_se/SeInheritance.c`), which would keep
/// administrators from writing to their own files.
fn default_dacl(owner: &Sid) -> Acl {
    let full = |sid| Ace::plain(ace_types::ACCESS_ALLOWED, 0, rights::FILE_ALL, sid);
    let system = (*owner != Sid::SYSTEM).then_some(full(Sid::SYSTEM));
    Acl::new([full(*owner)].into_iter().chain(system).collect())
}

/// The child to be created.
struct Child<'a> {
    is_directory: bool,
    owner: &'a Sid,
    group: &'a Sid,
}

/// An ACE of the child.
struct Inherited {
    ace: Ace,
    made: Made,
}

/// How an ACE of the child was made. Of equal ACEs the one with the least value stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Made {
    /// The parent's, unchanged.
    AsItIs,
    /// Generic rights became those of files.
    Mapped,
    /// Made from an ACE for CREATOR OWNER or CREATOR GROUP.
    ForCreator,
}

impl Child<'_> {
    /// The child's list; `None` if it inherits nothing from the parent's list.
    fn inherit_list(&self, parent: &Acl, auto: bool) -> Option<Acl> {
        let mut list = Vec::new();
        for ace in &parent.aces {
            self.inherit_ace(ace, auto, &mut list);
        }
        let aces = without_repetitions(list);
        (!aces.is_empty()).then_some(Acl { revision: parent.revision, aces })
    }

    /// Appends the ACEs that the child gets from one: none, one or two.
    fn inherit_ace(&self, ace: &Ace, auto: bool, list: &mut Vec<Inherited>) {
        let for_children = ace.flags & (ace_flags::OBJECT_INHERIT | ace_flags::CONTAINER_INHERIT);
        let for_this =
            if self.is_directory { ace_flags::CONTAINER_INHERIT } else { ace_flags::OBJECT_INHERIT };
        let applies = for_children & for_this != 0 && !is_for_other_objects(ace);
        let passes_on =
            self.is_directory && for_children != 0 && ace.flags & ace_flags::NO_PROPAGATE_INHERIT == 0;
        let flags = ace.flags & !INHERITANCE | if auto { ace_flags::INHERITED } else { 0 };
        let (effective, made) = self.concrete(ace);
        let mut push = |flags, body, made| {
            list.push(Inherited { ace: Ace { ace_type: ace.ace_type, flags, body }, made });
        };
        match (applies, passes_on) {
            (false, false) => {}
            (true, true) if made == Made::AsItIs => push(flags | for_children, effective, made),
            (true, false) => push(flags, effective, made),
            (_, true) => {
                if applies {
                    push(flags, effective, made);
                }
                push(flags | for_children | ace_flags::INHERIT_ONLY, ace.body.clone(), Made::AsItIs);
            }
        }
    }

    /// The body with creator SIDs and generic rights replaced by those of this child.
    fn concrete(&self, ace: &Ace) -> (AceBody, Made) {
        let mut body = ace.body.clone();
        let mut made = Made::AsItIs;
        if let AceBody::Plain { mask, sid, .. } | AceBody::Object { mask, sid, .. } = &mut body {
            let mapped = map_generic(*mask);
            if mapped != *mask {
                *mask = mapped;
                made = Made::Mapped;
            }
            let creator = match *sid {
                Sid::CREATOR_OWNER => Some(self.owner),
                Sid::CREATOR_GROUP => Some(self.group),
                _ => None,
            };
            if let Some(creator) = creator {
                *sid = *creator;
                made = Made::ForCreator;
            }
        }
        (body, made)
    }
}

/// Whether only objects of a certain kind inherit the ACE. Files and directories have no kind in this sense.
fn is_for_other_objects(ace: &Ace) -> bool {
    matches!(ace.body, AceBody::Object { inherited_object_type: Some(_), .. })
}

/// Maps generic rights to those on a file. Source: `IoGetFileObjectGenericMapping`.
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

/// Removes redundant ACEs. Takes linear time: an inherited ACE has one of 64 combinations of flags.
fn without_repetitions(list: Vec<Inherited>) -> Vec<Ace> {
    let mut keep = Vec::with_capacity(list.len());
    // Across an ACE of another type, order would matter.
    for run in list.chunk_by(|one, next| one.ace.ace_type == next.ace.ace_type) {
        // For each body, its combinations of flags, and which of the equal ACEs stays.
        let mut staying: HashMap<&AceBody, BTreeMap<u8, (Made, usize)>> = HashMap::new();
        for (index, Inherited { ace, made }) in run.iter().enumerate() {
            let first = staying.entry(&ace.body).or_default().entry(ace.flags).or_insert((*made, index));
            *first = (*first).min((*made, index));
        }
        keep.extend(run.iter().enumerate().map(|(index, Inherited { ace, made })| {
            let same_body = &staying[&ace.body];
            let covers = |&other: &u8| {
                other != ace.flags && other & ace_flags::INHERIT_ONLY == 0 && other & ace.flags == ace.flags
            };
            let is_covered = *made != Made::AsItIs && same_body.keys().any(covers);
            same_body[&ace.flags] == (*made, index) && !is_covered
        }));
    }
    list.into_iter().zip(keep).filter_map(|(inherited, keep)| keep.then_some(inherited.ace)).collect()
}

#[cfg(test)]
mod tests;
