//! The words of SDDL.

use super::super::{Sid, ace_flags, ace_types, control, rights};

/// A well-known SID by its authority and numbers.
const fn sid(authority: u64, sub_authorities: &[u32]) -> Sid {
    Sid::known(authority, sub_authorities)
}

/// Aliases of SIDs that are the same everywhere. Source: "SID Strings" (Win32), \[MS-DTYP\] 2.4.2.4.
pub(super) const SIDS: [(&str, Sid); 48] = [
    ("AA", sid(5, &[32, 579])),
    ("AC", sid(15, &[2, 1])),
    ("AN", sid(5, &[7])),
    ("AO", sid(5, &[32, 548])),
    ("AS", sid(18, &[1])),
    ("AU", sid(5, &[11])),
    ("BA", Sid::ADMINISTRATORS),
    ("BG", sid(5, &[32, 546])),
    ("BO", sid(5, &[32, 551])),
    ("BU", Sid::USERS),
    ("CD", sid(5, &[32, 574])),
    ("CG", Sid::CREATOR_GROUP),
    ("CO", Sid::CREATOR_OWNER),
    ("CY", sid(5, &[32, 569])),
    ("ED", sid(5, &[9])),
    ("ER", sid(5, &[32, 573])),
    ("ES", sid(5, &[32, 576])),
    ("HA", sid(5, &[32, 578])),
    ("HI", sid(16, &[12288])),
    ("IS", sid(5, &[32, 568])),
    ("IU", sid(5, &[4])),
    ("LS", sid(5, &[19])),
    ("LU", sid(5, &[32, 559])),
    ("LW", sid(16, &[4096])),
    ("ME", sid(16, &[8192])),
    ("MP", sid(16, &[8448])),
    ("MS", sid(5, &[32, 577])),
    ("MU", sid(5, &[32, 558])),
    ("NO", sid(5, &[32, 556])),
    ("NS", sid(5, &[20])),
    ("NU", sid(5, &[2])),
    ("OW", sid(3, &[4])),
    ("PO", sid(5, &[32, 550])),
    ("PS", sid(5, &[10])),
    ("PU", sid(5, &[32, 547])),
    ("RA", sid(5, &[32, 575])),
    ("RC", sid(5, &[12])),
    ("RD", sid(5, &[32, 555])),
    ("RE", sid(5, &[32, 552])),
    ("RM", sid(5, &[32, 580])),
    ("RU", sid(5, &[32, 554])),
    ("SI", sid(16, &[16384])),
    ("SO", sid(5, &[32, 549])),
    ("SS", sid(18, &[2])),
    ("SU", sid(5, &[6])),
    ("SY", Sid::SYSTEM),
    ("WD", Sid::EVERYONE),
    ("WR", sid(5, &[33])),
];

/// User-mode drivers: the one alias with five zeros.
pub(super) const USER_MODE_DRIVERS: (&str, Sid) = ("UD", sid(5, &[84, 0, 0, 0, 0, 0]));

/// Aliases of accounts of a domain, by relative identifier.
pub(super) const DOMAIN_RIDS: [(&str, u32); 17] = [
    ("AP", 525),
    ("CA", 517),
    ("CN", 522),
    ("DA", 512),
    ("DC", 515),
    ("DD", 516),
    ("DG", 514),
    ("DU", 513),
    ("EA", 519),
    ("EK", 527),
    ("KA", 526),
    ("LA", 500),
    ("LG", 501),
    ("PA", 520),
    ("RO", 498),
    ("RS", 553),
    ("SA", 518),
];

/// The fields of an ACE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// With GUIDs.
    Object,
    /// With a condition.
    Conditional,
    /// With GUIDs and a condition.
    ConditionalObject,
    /// With a named value.
    ResourceAttribute,
}

impl Form {
    pub(super) fn has_guids(self) -> bool {
        matches!(self, Form::Object | Form::ConditionalObject)
    }

    pub(super) fn has_seventh_field(self) -> bool {
        !matches!(self, Form::Plain | Form::Object)
    }
}

/// Types of ACEs that can be read and written.
pub(super) const ACE_TYPES: [(&str, u8, Form); 16] = [
    ("A", ace_types::ACCESS_ALLOWED, Form::Plain),
    ("D", ace_types::ACCESS_DENIED, Form::Plain),
    ("AU", ace_types::SYSTEM_AUDIT, Form::Plain),
    ("AL", ace_types::SYSTEM_ALARM, Form::Plain),
    ("OA", ace_types::ACCESS_ALLOWED_OBJECT, Form::Object),
    ("OD", ace_types::ACCESS_DENIED_OBJECT, Form::Object),
    ("OU", ace_types::SYSTEM_AUDIT_OBJECT, Form::Object),
    ("OL", ace_types::SYSTEM_ALARM_OBJECT, Form::Object),
    ("XA", ace_types::ACCESS_ALLOWED_CALLBACK, Form::Conditional),
    ("XD", ace_types::ACCESS_DENIED_CALLBACK, Form::Conditional),
    ("ZA", ace_types::ACCESS_ALLOWED_CALLBACK_OBJECT, Form::ConditionalObject),
    ("XU", ace_types::SYSTEM_AUDIT_CALLBACK, Form::Conditional),
    ("ML", ace_types::SYSTEM_MANDATORY_LABEL, Form::Plain),
    ("RA", ace_types::SYSTEM_RESOURCE_ATTRIBUTE, Form::ResourceAttribute),
    ("SP", ace_types::SYSTEM_SCOPED_POLICY_ID, Form::Plain),
    ("TL", ace_types::SYSTEM_PROCESS_TRUST_LABEL, Form::Plain),
];

/// Types of ACEs whose text no source describes.
pub(super) const UNSUPPORTED_TYPES: [&str; 1] = ["FL"];

/// Flags of ACEs, in the order in which they are written.
pub(super) const ACE_FLAGS: [(&str, u8); 8] = [
    ("OI", ace_flags::OBJECT_INHERIT),
    ("CI", ace_flags::CONTAINER_INHERIT),
    ("NP", ace_flags::NO_PROPAGATE_INHERIT),
    ("IO", ace_flags::INHERIT_ONLY),
    ("ID", ace_flags::INHERITED),
    ("CR", ace_flags::CRITICAL),
    ("SA", ace_flags::SUCCESSFUL_ACCESS),
    ("FA", ace_flags::FAILED_ACCESS),
];

/// Single rights, lowest bit first, which is the order in which they are written.
pub(super) const RIGHTS: [(&str, u32); 17] = [
    ("CC", 0x0000_0001),
    ("DC", 0x0000_0002),
    ("LC", 0x0000_0004),
    ("SW", 0x0000_0008),
    ("RP", 0x0000_0010),
    ("WP", 0x0000_0020),
    ("DT", 0x0000_0040),
    ("LO", 0x0000_0080),
    ("CR", 0x0000_0100),
    ("SD", 0x0001_0000),
    ("RC", 0x0002_0000),
    ("WD", 0x0004_0000),
    ("WO", 0x0008_0000),
    ("GA", rights::GENERIC_ALL),
    ("GX", rights::GENERIC_EXECUTE),
    ("GW", rights::GENERIC_WRITE),
    ("GR", rights::GENERIC_READ),
];

/// Names of whole masks. The first that fits is written.
pub(super) const MASKS: [(&str, u32); 8] = [
    ("FA", rights::FILE_ALL),
    ("FR", rights::FILE_READ),
    ("FW", rights::FILE_WRITE),
    ("FX", rights::FILE_EXECUTE),
    ("KA", rights::KEY_ALL),
    ("KR", rights::KEY_READ),
    ("KW", rights::KEY_WRITE),
    ("KX", rights::KEY_READ),
];

/// The rights that a mandatory label withholds from lower levels.
pub(super) const LABEL_POLICIES: [(&str, u32); 3] = [("NW", 1), ("NR", 2), ("NX", 4)];

/// Flags of a list, with the control bits they stand for in a DACL and in a SACL.
pub(super) const ACL_FLAGS: [(&str, u16, u16); 3] = [
    ("P", control::DACL_PROTECTED, control::SACL_PROTECTED),
    ("AR", control::DACL_AUTO_INHERIT_REQ, control::SACL_AUTO_INHERIT_REQ),
    ("AI", control::DACL_AUTO_INHERITED, control::SACL_AUTO_INHERITED),
];

/// A list that is present but NULL.
pub(super) const NULL_ACL: &str = "NO_ACCESS_CONTROL";
