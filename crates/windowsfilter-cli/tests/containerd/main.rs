//! `windowsfilter serve` under a real containerd: what an administrator gets who follows
//! `docs/containerd.md`.
//!
//! Every test starts daemons of its own, once with containerd 1.7 and once with 2, drives them with `ctr` and
//! looks at the result with ordinary programs. Root is needed, and the programs that `cargo xtask test`
//! provides; see [`tools::available`].

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "helpers of tests panic as tests do, and only tests read them"
)]

/// Makes two tests of each function, one for each containerd.
macro_rules! with_each_containerd {
    ($($test:ident),* $(,)?) => {
        mod containerd_1 {
            $(#[test]
            fn $test() {
                if crate::tools::available() {
                    super::$test(crate::tools::Version::V1);
                }
            })*
        }
        mod containerd_2 {
            $(#[test]
            fn $test() {
                if crate::tools::available() {
                    super::$test(crate::tools::Version::V2);
                }
            })*
        }
    };
}

mod changes;
mod compare;
mod concurrency;
mod docker;
mod garbage;
mod images;
mod kills;
mod mistakes;
mod process;
mod pull;
mod registry;
mod restarts;
mod rig;
mod suite;
mod tools;
mod wait;
