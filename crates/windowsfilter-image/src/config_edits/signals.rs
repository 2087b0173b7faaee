//! Signals that end a container. Source: moby/sys `signal/signal_linux.go`, `SignalMap`, and `ParseSignal`.

const NAMES: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "KILL", "PIPE", "POLL", "PROF",
    "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "CLD", "IOT", "UNUSED",
];
/// Names with a number behind them: `RTMIN+3`.
const REAL_TIME: [(&str, u8); 2] = [("RTMIN", 15), ("RTMAX", 14)];

/// Whether Docker takes `text` as a signal: a number other than 0, or a name with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return number > 0;
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    NAMES.contains(&name) || is_real_time(name)
}

fn is_real_time(name: &str) -> bool {
    REAL_TIME.iter().any(|(base, most)| match name.strip_prefix(base) {
        Some("") => true,
        Some(rest) => {
            let sign = if *base == "RTMIN" { '+' } else { '-' };
            rest.strip_prefix(sign)
                .and_then(|n| n.parse::<u8>().ok())
                .is_some_and(|n| (1..=*most).contains(&n))
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_those_that_docker_takes() {
        for good in ["15", "SIGTERM", "term", "SIGRTMIN+3", "RTMAX-14", "sigusr1"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "FOO", "SIGFOO", "SIG", "RTMIN+16", "RTMIN-1", "SIG TERM", "-9", "300"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
