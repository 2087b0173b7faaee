//! Access to a store on Windows: only its owner may write to it, like mode 0700 on Linux.
//!
//! In a directory below `C:\ProgramData` every user can create files, and below `D:\` also change existing
//! ones. In a store that would let them read sandboxes, put files into layers during import, and make layers
//! disappear. So the root is created with an access list of its own, which everything in it inherits, and a
//! store that others can write to is refused.
//!
//! Source: moby `cmd/dockerd/daemon_windows.go`, which creates its root with `system.MkdirAllWithACL`
//! (`daemon/internal/system/filesys_windows.go`).

use std::path::{Path, PathBuf};

use hcs::AccessControl;
use wclayer::security::{AclSlot, SecurityDescriptor, Sid, ace_flags, ace_types};

use crate::error::{Error, IoContext};

/// The root's list: all rights for administrators and the system, inherited by everything below, and nothing
/// inherited from its parent.
const PRIVATE: &str = "D:P(A;OICI;GA;;;BA)(A;OICI;GA;;;SY)";
/// The user who creates a directory owns it; only administrators can make the group of administrators its
/// owner.
const OWNED_BY_ADMINISTRATORS: &str = "O:BA";

/// Rights to change a directory or its content. Source: \[MS-DTYP\] 2.4.3, winnt.h.
const WRITES: u32 = 0x2 // FILE_ADD_FILE
    | 0x4 // FILE_ADD_SUBDIRECTORY
    | 0x10 // FILE_WRITE_EA
    | 0x40 // FILE_DELETE_CHILD
    | 0x100 // FILE_WRITE_ATTRIBUTES
    | 0x1_0000 // DELETE
    | 0x4_0000 // WRITE_DAC
    | 0x8_0000 // WRITE_OWNER
    | 0x200_0000 // MAXIMUM_ALLOWED
    | 0x1000_0000 // GENERIC_ALL
    | 0x4000_0000; // GENERIC_WRITE

/// `NT SERVICE\TrustedInstaller`, which owns Windows itself.
const TRUSTED_INSTALLER: [u32; 6] =
    [80, 956_008_885, 3_418_522_649, 1_831_038_044, 1_853_292_631, 2_271_478_464];
/// Last parts of the SIDs of administrators in every domain and on every machine: the account, the domain's
/// administrators and the forest's.
const ADMINISTRATORS_OF_A_DOMAIN: [u32; 3] = [500, 512, 519];

/// Users who can write to a directory of the store and should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// The directory.
    pub dir: PathBuf,
    /// SIDs of these users.
    pub sids: Vec<String>,
    /// Whether one of them owns it, and so can grant themselves every right.
    pub owned: bool,
    /// SIDs that may write to it.
    allowed: Vec<String>,
}

impl Exposed {
    /// The command with which an administrator repairs it.
    pub fn mended_by(&self) -> String {
        let dir = self.dir.display();
        let owner = if self.owned { format!("takeown /a /f \"{dir}\"; ") } else { String::new() };
        let removed: Vec<String> = self.sids.iter().map(|sid| format!(" /remove \"*{sid}\"")).collect();
        let granted: Vec<String> =
            self.allowed.iter().map(|sid| format!(" /grant \"*{sid}:(OI)(CI)F\"")).collect();
        format!("{owner}icacls \"{dir}\" /inheritance:r{}{}", removed.concat(), granted.concat())
    }
}

impl std::fmt::Display for Exposed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.sids.iter().map(|sid| named(sid)).collect();
        write!(f, "others can write to {}: {}", self.dir.display(), names.join(", "))
    }
}

/// The SID, with Windows' name for it if it is one of those in default access lists.
fn named(sid: &str) -> String {
    let name = match sid {
        "S-1-1-0" => "Everyone",
        "S-1-5-11" => r"NT AUTHORITY\Authenticated Users",
        "S-1-5-32-545" => r"BUILTIN\Users",
        "S-1-3-0" => "CREATOR OWNER",
        _ => return sid.to_owned(),
    };
    format!("{name} ({sid})")
}

fn failed(path: &Path, error: hcs::Error) -> Error {
    Error::Hcs { id: path.display().to_string(), error }
}

/// Creates a directory that only its owner can access.
pub(crate) fn create(access: &dyn AccessControl, dir: &Path) -> Result<(), Error> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).at("create directory", dir)?;
    }
    let user = access.user().map_err(|error| failed(dir, error))?;
    let sddl = if user.is_administrator {
        format!("{OWNED_BY_ADMINISTRATORS}{PRIVATE}")
    } else {
        format!("{PRIVATE}(A;OICI;GA;;;{})", user.sid)
    };
    match access.create_directory(dir, &sddl) {
        // Another process created it first; the caller checks whether it is private.
        Err(error) if error.is_already_there() => Ok(()),
        other => other.map_err(|error| failed(dir, error)),
    }
}

/// Who can write to `dir`, which may be a link, besides this user, administrators and the system.
pub(crate) fn exposed(access: &dyn AccessControl, dir: &Path) -> Result<Option<Exposed>, Error> {
    let user = access.user().map_err(|error| failed(dir, error))?;
    let bytes = access.security_descriptor(dir).map_err(|error| failed(dir, error))?;
    let descriptor = SecurityDescriptor::parse(&bytes).map_err(|error| {
        let text = format!("its security descriptor cannot be read: {error}");
        failed(dir, hcs::Error::invalid("GetKernelObjectSecurity", dir.display().to_string(), text))
    })?;
    let own: Option<Sid> = user.sid.parse().ok();
    let (sids, owned) = writers(&descriptor, own);
    if sids.is_empty() {
        return Ok(None);
    }
    let mut allowed = vec![Sid::ADMINISTRATORS.to_string(), Sid::SYSTEM.to_string()];
    if !user.is_administrator {
        allowed.push(user.sid);
    }
    let sids = sids.iter().map(Sid::to_string).collect();
    Ok(Some(Exposed { dir: dir.to_owned(), sids, owned, allowed }))
}

/// The SIDs that a descriptor lets write and that should not, and whether the owner is one of them. Entries
/// that deny are ignored: a denied right does not justify an entry that grants others.
fn writers(descriptor: &SecurityDescriptor, own: Option<Sid>) -> (Vec<Sid>, bool) {
    let trusted = |sid: &Sid| is_trusted(sid) || own.as_ref() == Some(sid);
    let mut found: Vec<Sid> = descriptor.owner.iter().copied().filter(|sid| !trusted(sid)).collect();
    let owned = !found.is_empty();
    match &descriptor.dacl {
        AclSlot::Absent | AclSlot::Null => found.push(Sid::EVERYONE),
        AclSlot::List(list) => {
            for ace in &list.aces {
                let allows = matches!(
                    ace.ace_type,
                    ace_types::ACCESS_ALLOWED
                        | ace_types::ACCESS_ALLOWED_OBJECT
                        | ace_types::ACCESS_ALLOWED_CALLBACK
                        | ace_types::ACCESS_ALLOWED_CALLBACK_OBJECT
                );
                let (Some(sid), Some(mask)) = (ace.sid(), ace.mask()) else { continue };
                // Stands for the user who creates a file there, which needs another entry that lets that user
                // write.
                let stands_in = ace.flags & ace_flags::INHERIT_ONLY != 0
                    && [Sid::CREATOR_OWNER, Sid::CREATOR_GROUP].contains(sid);
                if allows && mask & WRITES != 0 && !stands_in && !trusted(sid) && !found.contains(sid) {
                    found.push(*sid);
                }
            }
        }
    }
    (found, owned)
}

fn is_trusted(sid: &Sid) -> bool {
    let parts = sid.sub_authorities();
    *sid == Sid::ADMINISTRATORS
        || *sid == Sid::SYSTEM
        || (sid.authority() == 5 && parts == TRUSTED_INSTALLER)
        // OWNER RIGHTS: those of the owner, who is checked above.
        || (sid.authority() == 3 && parts == [4])
        || (sid.authority() == 5
            && parts.len() == 5
            && parts[0] == 21
            && ADMINISTRATORS_OF_A_DOMAIN.contains(&parts[4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(sddl: &str) -> Vec<String> {
        let own = "S-1-5-21-1-2-3-1001".parse().ok();
        let descriptor = SecurityDescriptor::from_sddl(sddl).unwrap();
        // In the binary form that Windows returns.
        let descriptor = SecurityDescriptor::parse(&descriptor.to_bytes().unwrap()).unwrap();
        writers(&descriptor, own).0.iter().map(Sid::to_string).collect()
    }

    #[test]
    fn what_docker_and_this_program_make_is_nobody_elses() {
        assert_eq!(who("O:BAD:P(A;OICI;GA;;;BA)(A;OICI;GA;;;SY)"), [""; 0]);
        // The list as inherited by a directory below, owned by the system.
        assert_eq!(who("O:SYD:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)"), [""; 0]);
        assert_eq!(who("O:BAD:P(A;OICI;GA;;;BA)(A;OICI;GA;;;SY)(A;OICI;GA;;;S-1-5-21-1-2-3-1001)"), [""; 0]);
        assert_eq!(who("O:S-1-5-21-1-2-3-500D:(A;OICI;FA;;;S-1-5-21-9-9-9-512)(A;;FR;;;WD)"), [""; 0]);
    }

    #[test]
    fn who_can_write_is_found_however_they_come_by_it() {
        // The default list of a directory in C:\ProgramData.
        let program_data = "O:BAD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIIOID;GA;;;CO)(A;OICIID;0x1200a9;;;BU)(A;CIID;DCLCRPCR;;;BU)";
        assert_eq!(who(program_data), ["S-1-5-32-545"]);
        // And of one in D:\.
        let data_disk =
            "O:BAD:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIID;0x1301bf;;;AU)(A;OICIID;0x1200a9;;;BU)";
        assert_eq!(who(data_disk), ["S-1-5-11"]);
        for (sddl, sid) in [
            // The owner can change the list.
            ("O:S-1-5-21-1-2-3-1002D:P(A;OICI;GA;;;BA)", "S-1-5-21-1-2-3-1002"),
            // No list, and a null list, both of which let everyone in.
            ("O:BA", "S-1-1-0"),
            ("O:BAD:NO_ACCESS_CONTROL", "S-1-1-0"),
            // Grants rights only on entries created below.
            ("O:BAD:P(A;OICI;GA;;;BA)(A;OIIO;GW;;;WD)", "S-1-1-0"),
            // Denying one right does not take away another.
            ("O:BAD:P(D;;DC;;;WD)(A;;SD;;;WD)", "S-1-1-0"),
            ("O:BAD:P(A;;WO;;;S-1-5-21-1-2-3-513)", "S-1-5-21-1-2-3-513"),
            ("O:BAD:P(XA;;FA;;;BU;(@USER.a == 1))", "S-1-5-32-545"),
        ] {
            assert_eq!(who(sddl), [sid], "{sddl}");
        }
    }

    #[test]
    fn the_command_that_mends_it_names_directory_and_users() {
        let exposed = Exposed {
            dir: PathBuf::from(r"C:\ProgramData\windowsfilter"),
            sids: vec!["S-1-5-32-545".into()],
            owned: true,
            allowed: vec!["S-1-5-32-544".into(), "S-1-5-18".into()],
        };
        assert_eq!(
            exposed.mended_by(),
            "takeown /a /f \"C:\\ProgramData\\windowsfilter\"; icacls \"C:\\ProgramData\\windowsfilter\" \
             /inheritance:r /remove \"*S-1-5-32-545\" /grant \"*S-1-5-32-544:(OI)(CI)F\" /grant \"*S-1-5-18:(OI)(CI)F\""
        );
        assert_eq!(
            exposed.to_string(),
            r"others can write to C:\ProgramData\windowsfilter: BUILTIN\Users (S-1-5-32-545)"
        );
    }
}
