//! Who may write to a store on Windows: only its owner, as the mode 0700 says it on Linux.
//!
//! A directory below `C:\ProgramData` lets every user make files in it, and one below `D:\` lets them change
//! what is there. Who can do that to a store can read sandboxes, put files into layers that are being
//! imported, and make layers disappear. So the root is made with an access list of its own, which everything
//! in it inherits, and a store is refused that others can write to.
//!
//! Source: moby `cmd/dockerd/daemon_windows.go`, which makes its root with `system.MkdirAllWithACL`
//! (`daemon/internal/system/filesys_windows.go`).

use std::path::{Path, PathBuf};

use hcs::AccessControl;
use wclayer::security::{AclSlot, SecurityDescriptor, Sid, ace_flags, ace_types};

use crate::error::{Error, IoContext};

/// What the root gets: all rights for administrators and the system, for everything below it as well, and
/// nothing from what it lies in.
const PRIVATE: &str = "D:P(A;OICI;GA;;;BA)(A;OICI;GA;;;SY)";
/// The user who makes a directory owns it; only administrators can give it to all administrators.
const OWNED_BY_ADMINISTRATORS: &str = "O:BA";

/// Rights on a directory that change it or what is in it. Source: \[MS-DTYP\] 2.4.3, winnt.h.
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
/// Last parts of the SIDs that are administrators in every domain and on every machine: the account, the
/// domain's and the forest's.
const ADMINISTRATORS_OF_A_DOMAIN: [u32; 3] = [500, 512, 519];

/// Users who can write to a directory of the store and should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// The directory.
    pub dir: PathBuf,
    /// SIDs of those who can.
    pub sids: Vec<String>,
    /// Whether one of them owns it, and can give themselves every right.
    pub owned: bool,
    /// Who should be the only ones.
    allowed: Vec<String>,
}

impl Exposed {
    /// What an administrator runs to mend it.
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

/// The SID, with the name that Windows has for it if it is one of those that directories have by default.
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

/// Makes a directory that only its owner can do anything with.
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
        // Another process made it first; the caller checks whether that one may be used.
        Err(error) if error.is_already_there() => Ok(()),
        other => other.map_err(|error| failed(dir, error)),
    }
}

/// Who but this user, administrators and the system can write to `dir`, which may be a link.
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

/// Whom a descriptor lets write and who should not, and whether such a one is the owner. What is denied is
/// not looked at: who is denied something is no reason to have a list that others are on.
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
                // Stands for the user who makes something there, which only users can that are named
                // themselves.
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
        // OWNER RIGHTS: the owner's, who is looked at.
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
        // As Windows hands it out.
        let descriptor = SecurityDescriptor::parse(&descriptor.to_bytes().unwrap()).unwrap();
        writers(&descriptor, own).0.iter().map(Sid::to_string).collect()
    }

    #[test]
    fn what_docker_and_this_program_make_is_nobody_elses() {
        assert_eq!(who("O:BAD:P(A;OICI;GA;;;BA)(A;OICI;GA;;;SY)"), [""; 0]);
        // What Windows makes of it in a directory below, owned by the system.
        assert_eq!(who("O:SYD:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)"), [""; 0]);
        assert_eq!(who("O:BAD:P(A;OICI;GA;;;BA)(A;OICI;GA;;;SY)(A;OICI;GA;;;S-1-5-21-1-2-3-1001)"), [""; 0]);
        assert_eq!(who("O:S-1-5-21-1-2-3-500D:(A;OICI;FA;;;S-1-5-21-9-9-9-512)(A;;FR;;;WD)"), [""; 0]);
    }

    #[test]
    fn who_can_write_is_found_however_they_come_by_it() {
        // What a directory in C:\ProgramData has by default.
        let program_data = "O:BAD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIIOID;GA;;;CO)(A;OICIID;0x1200a9;;;BU)(A;CIID;DCLCRPCR;;;BU)";
        assert_eq!(who(program_data), ["S-1-5-32-545"]);
        // And one in D:\.
        let data_disk =
            "O:BAD:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIID;0x1301bf;;;AU)(A;OICIID;0x1200a9;;;BU)";
        assert_eq!(who(data_disk), ["S-1-5-11"]);
        for (sddl, sid) in [
            // The owner can change the list.
            ("O:S-1-5-21-1-2-3-1002D:P(A;OICI;GA;;;BA)", "S-1-5-21-1-2-3-1002"),
            // No list at all, and an empty one for everybody.
            ("O:BA", "S-1-1-0"),
            ("O:BAD:NO_ACCESS_CONTROL", "S-1-1-0"),
            // Only what is made below is theirs.
            ("O:BAD:P(A;OICI;GA;;;BA)(A;OIIO;GW;;;WD)", "S-1-1-0"),
            // To be denied one right is not to be without another.
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
