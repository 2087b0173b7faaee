//! Names like those of a Windows installation, unique without regard to case.

use std::collections::HashSet;

use super::prng::Prng;

const FIRST: [&str; 48] = [
    "advapi", "appx", "audio", "auth", "bcrypt", "biso", "cert", "cloud", "comsvc", "crypt", "d3d", "device",
    "dhcp", "dns", "edge", "esent", "event", "fire", "gdi", "http", "ime", "iphlp", "kernel", "lsa", "mf",
    "mpr", "ms", "net", "nt", "ole", "perf", "policy", "print", "rpc", "sam", "schannel", "secur", "shell",
    "sys", "task", "tcpip", "ui", "usb", "user", "vss", "wbem", "win", "wmi",
];
const SECOND: [&str; 40] = [
    "api", "base", "cache", "client", "cmd", "com", "config", "core", "ctrl", "data", "diag", "disp", "ext",
    "filter", "gpo", "helper", "host", "inst", "lib", "log", "mgr", "migr", "mon", "notify", "obj", "plugin",
    "prov", "proxy", "query", "res", "route", "runtime", "server", "setup", "store", "svc", "tool", "trace",
    "ui", "util",
];

/// Generates names and never repeats one.
#[derive(Debug)]
pub(super) struct Names {
    prng: Prng,
    used: HashSet<String>,
    build: u64,
}

impl Names {
    /// Names for the image of `seed`; `build` is the last part of `10.0.20348.…`.
    #[must_use]
    pub(super) fn new(seed: u64, build: u64) -> Self {
        Self { prng: Prng::named(seed, b"names"), used: HashSet::new(), build }
    }

    /// A component's name, as in `bcryptprov`.
    pub(super) fn component(&mut self) -> String {
        let mut name = format!("{}{}", self.prng.pick(&FIRST), self.prng.pick(&SECOND));
        while !self.used.insert(name.clone()) {
            let longer = *self.prng.pick(&SECOND);
            name.push_str(longer);
        }
        name
    }

    /// The name with some developer's choice of case.
    pub(super) fn spelled(&mut self, name: &str) -> String {
        match self.prng.below(10) {
            0 => name.to_ascii_uppercase(),
            1..=3 => name[..1].to_ascii_uppercase() + &name[1..],
            _ => name.to_owned(),
        }
    }

    /// A side-by-side assembly's full name, mostly over 100 bytes long.
    pub(super) fn assembly(&mut self, component: &str) -> String {
        let architecture = *self.prng.pick(&["amd64", "amd64", "amd64", "wow64", "x86", "msil"]);
        let group = *self.prng.pick(&["windows", "windows", "onecore", "windows-security", "windows-minwin"]);
        format!(
            "{architecture}_microsoft-{group}-{component}_31bf3856ad364e35_10.0.20348.{}_none_{:016x}",
            self.prng.between(1, self.build),
            self.prng.draw()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_thousand_components_have_names_of_their_own() {
        let mut names = Names::new(1, 100);
        let all: HashSet<String> = (0..50_000).map(|_| names.component()).collect();
        assert_eq!(all.len(), 50_000);
        assert!(all.iter().all(|name| name.len() < 60));
    }
}
