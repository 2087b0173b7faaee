//! Ports that a container offers.

/// The ports of `80`, `80/udp` or `8000-8010/tcp`, each with its protocol. Source: docker/go-connections
/// `nat/nat.go`, `ParsePortSpecs`.
pub(super) fn parse(text: &str) -> Result<Vec<String>, &'static str> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err("the protocol is none of tcp, udp, sctp");
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port > 0)
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        (Some(_), Some(_)) => Err("the range ends before it begins"),
        _ => Err("expected a port from 1 to 65535, or a range of them, as in 80, 53/udp, 8000-8010/tcp"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_a_protocol_and_ranges_are_spelled_out() {
        assert_eq!(parse("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(parse("65534-65535").unwrap(), ["65534/tcp", "65535/tcp"]);
        for bad in ["", "0", "65536", "80/http", "9-8", "+80", "80-", "-80", "80:80"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
