//! The security descriptors of a Windows image: a few dozen, shared by tens of thousands of files.

use wclayer::security::SecurityDescriptor;

use super::prng::Prng;

/// Owner of most files that Windows installs.
const TRUSTED_INSTALLER: &str = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
/// "All restricted application packages".
const RESTRICTED_PACKAGES: &str = "S-1-15-2-2";

/// The kind of object that a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Installed files, writable for TrustedInstaller only.
    SystemFile,
    /// Installed directories.
    SystemDirectory,
    /// A service's own files and directories; each service has another descriptor.
    Service(u8),
    /// Program Files, ProgramData and other places that administrators write to.
    Administrators,
    /// A user's profile.
    Profile,
    /// A junction for old programs, which users may not list.
    Junction,
}

/// Number of services with their own descriptors.
pub const SERVICES: u8 = 28;

/// All descriptors of an image, as self-relative bytes.
#[derive(Debug)]
pub struct Catalogue {
    fixed: [Vec<u8>; 5],
    services: Vec<Vec<u8>>,
}

impl Catalogue {
    /// The descriptors for the image of `seed`.
    ///
    /// # Panics
    /// Never: the texts are constants except for the service SIDs' numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut prng = Prng::named(seed, b"security");
        let ti = TRUSTED_INSTALLER;
        let packages = format!("(A;;0x1200a9;;;AC)(A;;0x1200a9;;;{RESTRICTED_PACKAGES})");
        let fixed = [
            format!(
                "O:{ti}G:{ti}D:PAI(A;;0x1200a9;;;SY)(A;;0x1200a9;;;BA)(A;;0x1200a9;;;BU)(A;;FA;;;{ti}){packages}"
            ),
            format!(
                "O:{ti}G:{ti}D:PAI(A;OICIIO;GA;;;CO)(A;OICIIO;GA;;;SY)(A;;0x1301bf;;;SY)(A;OICIIO;GA;;;BA)\
                 (A;;0x1301bf;;;BA)(A;OICIIO;GXGR;;;BU)(A;;0x1200a9;;;BU)(A;CIIO;GA;;;{ti})(A;;FA;;;{ti}){packages}"
            ),
            "O:BAG:SYD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)(A;OICIIOID;GA;;;CO)"
                .to_owned(),
            "O:SYG:SYD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)(A;OICI;0x1200a9;;;WD)"
                .to_owned(),
            "O:SYG:SYD:PAI(D;;CC;;;WD)(A;;0x1200a9;;;WD)(A;;FA;;;SY)(A;;FA;;;BA)".to_owned(),
        ];
        let services = (0..SERVICES).map(|_| {
            let sid: Vec<String> = (0..5).map(|_| (prng.draw() as u32).to_string()).collect();
            let service = format!("S-1-5-80-{}", sid.join("-"));
            format!(
                "O:{ti}G:{ti}D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1301bf;;;{service})(A;OICI;0x1200a9;;;BU)\
                 S:AI(AU;OICIFA;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;WD)"
            )
        });
        Self { services: services.map(|sddl| bytes(&sddl)).collect(), fixed: fixed.map(|sddl| bytes(&sddl)) }
    }

    /// The descriptor of an object of this class.
    #[must_use]
    pub fn bytes(&self, class: Class) -> &[u8] {
        match class {
            Class::SystemFile => &self.fixed[0],
            Class::SystemDirectory => &self.fixed[1],
            Class::Administrators => &self.fixed[2],
            Class::Profile => &self.fixed[3],
            Class::Junction => &self.fixed[4],
            Class::Service(n) => &self.services[usize::from(n % SERVICES)],
        }
    }
}

#[expect(clippy::expect_used, reason = "the texts above are constants and tested")]
fn bytes(sddl: &str) -> Vec<u8> {
    let descriptor = SecurityDescriptor::from_sddl(sddl).expect("the catalogue's texts are well-formed");
    descriptor.to_bytes().expect("the catalogue's lists are short")
}
