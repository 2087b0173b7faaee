//! Image references: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`.
//!
//! Spellings of one image (`servercore`, `index.docker.io/library/servercore:latest`) must not be several
//! images, so references compare by their full form, and show what the user wrote. Source:
//! distribution/reference, `regexp.go` for the grammar and `ParseNormalizedNamed` of `normalize.go` for the
//! full form.

use std::fmt;

use windowsfilter::Digest;

use crate::error::Error;

/// Longest reference, bytes: its escaped form must fit a file name, and registries accept names of at most
/// 255 bytes.
const MAX_LEN: usize = 255;
/// The registry of names without one.
const HUB: &str = "docker.io";
/// Docker Hub's old name.
const OLD_HUB: &str = "index.docker.io";

/// A valid image reference.
#[derive(Clone, Debug)]
pub struct Reference {
    given: String,
    full: String,
}

impl Reference {
    /// Parses and completes `text`: the default registry is `docker.io`, the default tag `latest`.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] with the reason.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::checked(text, check_component)
    }

    /// Parses a record's reference. Earlier versions accepted any mix of separators, and their records must
    /// stay reachable.
    pub(crate) fn of_record(text: &str) -> Result<Self, Error> {
        Self::checked(text, check_earlier_component)
    }

    fn checked(text: &str, check: Check) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidReference { text: text.chars().take(300).collect(), reason };
        let full = complete(text, check).map_err(invalid)?;
        if full.len() > MAX_LEN || escape(&full).len() > MAX_LEN - ".json".len() {
            return Err(invalid("it is too long"));
        }
        Ok(Self { given: text.to_owned(), full })
    }

    /// As the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.given
    }

    /// The full form, with registry and tag.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// As the user wrote it, with a tag: the form for archives.
    pub(crate) fn with_tag(&self) -> String {
        let last = self.given.rsplit('/').next().unwrap_or(&self.given);
        if last.contains([':', '@']) { self.given.clone() } else { format!("{}:latest", self.given) }
    }

    /// The reference without its digest; `None` if it has no tag then.
    pub(crate) fn tagged(&self) -> Option<String> {
        let named = self.with_tag();
        let name = named.split('@').next().unwrap_or(&named);
        self.tag().map(|_| name.to_owned())
    }

    /// Its tag; `latest` by default, unless it has a digest.
    pub(crate) fn tag(&self) -> Option<&str> {
        let name = self.full.split('@').next().unwrap_or(&self.full);
        name.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag)
    }

    /// Without tag and digest.
    pub(crate) fn repository(&self) -> &str {
        let name = self.full.split('@').next().unwrap_or(&self.full);
        let tag = name.rfind('/').map_or(name, |slash| &name[slash..]).find(':');
        tag.map_or(name, |tag| &name[..name.rfind('/').unwrap_or(0) + tag])
    }

    /// Refuses a name that says which manifest it means: it cannot be given to an image that is made here.
    pub(crate) fn check_new(&self) -> Result<(), Error> {
        match self.given.contains('@') {
            true => Err(Error::DigestReference { text: self.given.clone() }),
            false => Ok(()),
        }
    }

    /// The digest of the manifest it is bound to.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.given.split_once('@').and_then(|(_, digest)| digest.parse().ok())
    }

    /// The file name of its record.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.json", escape(&self.full))
    }

    /// File names of possible records, likeliest first. Earlier versions took `two`, `docker.io/two` and
    /// `index.docker.io/library/two` for different images; their records are found by every spelling, first
    /// by their own.
    pub(crate) fn file_names(&self) -> Vec<String> {
        let mut names = vec![self.full.clone()];
        if let Some(path) = self.full.strip_prefix("docker.io/") {
            names.push(format!("{OLD_HUB}/{path}"));
            if let Some(short) = path.strip_prefix("library/").filter(|short| !short.contains('/')) {
                names.extend([HUB, OLD_HUB].map(|host| format!("{host}/{short}")));
            }
        }
        let own = self.with_tag();
        names.sort_by_key(|name| *name != own);
        let files = names.iter().map(|name| format!("{}.json", escape(name)));
        files.filter(|file| file.len() <= MAX_LEN).collect()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl std::str::FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.full == other.full
    }
}

impl Eq for Reference {}

/// A check of one part of a name.
type Check = fn(&str) -> Result<(), &'static str>;

fn complete(text: &str, check: Check) -> Result<String, &'static str> {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    if let Some(digest) = digest {
        digest.parse::<Digest>().map_err(|_| "what follows @ is not a sha256 digest")?;
    }
    let after_host = rest.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match rest[after_host..].find(':') {
        Some(colon) => (&rest[..after_host + colon], Some(&rest[after_host + colon + 1..])),
        None => (rest, None),
    };
    check_tag(tag)?;
    let (host, path) = match name.split_once('/') {
        Some((OLD_HUB, path)) => (HUB, path),
        // Docker's rule: a first part that cannot be a user name is a host.
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
        _ => (HUB, name),
    };
    check_host(host)?;
    path.split('/').try_for_each(check)?;
    let library = if host == HUB && !path.contains('/') { "library/" } else { "" };
    let name = format!("{host}/{library}{path}");
    Ok(match (tag, digest) {
        (Some(tag), Some(digest)) => format!("{name}:{tag}@{digest}"),
        (None, Some(digest)) => format!("{name}@{digest}"),
        (tag, None) => format!("{name}:{}", tag.unwrap_or("latest")),
    })
}

fn check_tag(tag: Option<&str>) -> Result<(), &'static str> {
    let Some(tag) = tag else { return Ok(()) };
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let well_formed =
        tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
    match tag.len() {
        ..=128 if well_formed => Ok(()),
        129.. => Err("its tag is longer than 128 characters"),
        _ => Err("a tag is letters, digits, '_', '.' and '-', and starts with none of the last two"),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let name_fits = name.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    if name_fits && port.is_none_or(|p| p.parse::<u16>().is_ok()) {
        Ok(())
    } else {
        Err("its registry is not a host name")
    }
}

/// Letters and digits, with separators between them: one `.`, one or two `_`, any number of `-`.
fn check_component(part: &str) -> Result<(), &'static str> {
    check_earlier_component(part)?;
    let is_separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    if part.split(|c: char| c.is_ascii_alphanumeric()).all(is_separator) {
        Ok(())
    } else {
        Err("between letters and digits of a name stand one '.', one or two '_', or any number of '-'")
    }
}

fn check_earlier_component(part: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if part.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("names are lower case");
    }
    let edges = part.bytes().next().is_some_and(word) && part.bytes().last().is_some_and(word);
    if edges && part.bytes().all(|b| word(b) || matches!(b, b'.' | b'_' | b'-')) {
        Ok(())
    } else {
        Err("each part of the name is letters and digits, with '.', '_' and '-' between them")
    }
}

/// Escapes a reference into one file name for any host.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        // Escape upper case (in tags) too: Windows' file names ignore case.
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_') {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_completed_as_docker_completes_it() {
        for (given, full) in [
            ("servercore", "docker.io/library/servercore:latest"),
            ("servercore:ltsc2022", "docker.io/library/servercore:ltsc2022"),
            ("me/app:1", "docker.io/me/app:1"),
            ("localhost/app", "localhost/app:latest"),
            ("host:5000/a/b:T", "host:5000/a/b:T"),
            (
                "mcr.microsoft.com/windows/nanoserver:ltsc2022",
                "mcr.microsoft.com/windows/nanoserver:ltsc2022",
            ),
        ] {
            let reference = Reference::parse(given).unwrap();
            assert_eq!((reference.as_str(), reference.full()), (given, full));
        }
        assert_eq!(Reference::parse("host:5000/a").unwrap().with_tag(), "host:5000/a:latest");
    }

    #[test]
    fn spellings_of_one_image_are_one() {
        for spelling in
            ["two:1", "library/two:1", "docker.io/two:1", "docker.io/library/two:1", "index.docker.io/two:1"]
        {
            let reference = Reference::parse(spelling).unwrap();
            assert_eq!(reference, Reference::parse("index.docker.io/library/two:1").unwrap(), "{spelling}");
            assert_eq!(reference.file_name(), "docker.io%2Flibrary%2Ftwo%3A1.json");
            assert_eq!(reference.to_string(), spelling);
        }
        assert_eq!(Reference::parse("index.docker.io/me/two").unwrap().full(), "docker.io/me/two:latest");
        for other in ["me/two:1", "example.com/two:1", "docker.io:443/two:1", "docker.io/library/a/two:1"] {
            assert_ne!(Reference::parse(other).unwrap(), Reference::parse("two:1").unwrap(), "{other}");
        }
    }

    #[test]
    fn separators_are_those_of_docker_but_records_keep_their_names() {
        for good in ["a.b", "a_b", "a__b", "a-b", "a---b", "a.b_c__d-e", "x/a.b"] {
            Reference::parse(good).unwrap();
        }
        for bad in ["a..b:1", "a_-b", "a___b", "a.-b", "a-_b", "x/a..b", "docker.io/a_.b"] {
            assert!(matches!(Reference::parse(bad), Err(Error::InvalidReference { .. })), "{bad:?}");
            Reference::of_record(bad).unwrap();
        }
    }

    #[test]
    fn a_digest_is_no_tag() {
        let digest = Digest::of(b"x");
        for (given, tag, tagged) in [
            ("a".to_owned(), Some("latest"), Some("a:latest")),
            ("h:5000/a:1".to_owned(), Some("1"), Some("h:5000/a:1")),
            (format!("h:5000/a:1@{digest}"), Some("1"), Some("h:5000/a:1")),
            (format!("h:5000/a@{digest}"), None, None),
        ] {
            let reference = Reference::parse(&given).unwrap();
            assert_eq!((reference.tag(), reference.tagged().as_deref()), (tag, tagged), "{given}");
            assert_eq!(reference.digest(), given.contains('@').then_some(digest));
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a".repeat(300);
        for bad in [
            "",
            ":x",
            "a:",
            "A",
            "a//b",
            "/a",
            "a/",
            "../x",
            "a b",
            "a:b:c",
            "a@sha256:12",
            "a:-x",
            "ho_st.x/a",
            &long,
        ] {
            assert!(matches!(Reference::parse(bad), Err(Error::InvalidReference { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_records_name_is_one_path_component_and_tells_case_apart() {
        let name = Reference::parse("host:5000/a/b:T").unwrap().file_name();
        assert_eq!(name, "host%3A5000%2Fa%2Fb%3A%54.json");
    }
}
