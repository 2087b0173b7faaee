//! Explains a missing path: what it may have meant.

use std::io;
use std::path::Path;

use crate::error::Error;

/// Transports of skopeo and others whose sources can be given here by path alone.
const PATHS: [&str; 4] = ["oci", "oci-archive", "docker-archive", "dir"];

/// The error for a missing path, with a hint if other tools would understand it.
pub(super) fn missing(path: &Path, source: io::Error) -> Error {
    let text = path.display().to_string();
    let reason = match text.split_once(':') {
        Some(("docker" | "http" | "https", rest)) if rest.starts_with("//") => {
            let address = format!("docker:{rest}");
            Some(format!(
                "it is in a registry: copy it with `skopeo copy --override-os windows {address} oci-archive:image.tar`, then import \
                 image.tar"
            ))
        }
        Some(("docker-daemon", rest)) => {
            Some(format!("save it with `docker save -o image.tar {rest}`, then import image.tar"))
        }
        Some((transport, rest)) if PATHS.contains(&transport) => Some(format!(
            "give the path alone, as in {:?}, and --select where it has several images",
            rest.split(':').next().unwrap_or(rest)
        )),
        _ => None,
    };
    let reason = reason.or_else(|| {
        let (before, name) = text.rsplit_once(':')?;
        Path::new(before).exists().then(|| format!("{before} is there: give it alone, and --select {name}"))
    });
    match reason {
        Some(reason) => Error::NotAPath { text, reason },
        None => Error::Io { action: "open", path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_tools_would_understand_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("bl");
        std::fs::write(&there, "").unwrap();
        let said = |text: &str| missing(Path::new(text), io::ErrorKind::NotFound.into()).to_string();
        let address = "docker://mcr.microsoft.com/windows/nanoserver:ltsc2022";
        assert!(said(address).contains(&format!("skopeo copy --override-os windows {address} oci-archive:")));
        assert!(said("https://h/n:t").contains("windows docker://h/n:t oci-archive:"));
        assert!(said("docker-daemon:win:1").contains("docker save -o image.tar win:1"));
        assert!(said("oci:layout:win:1").contains("give the path alone, as in \"layout\""));
        assert!(said(&format!("{}:v1", there.display())).ends_with("--select v1"));
        assert!(said("C:nowhere").starts_with("cannot open"));
    }
}
