//! Every command's help, and what wrong usage gets, word for word: `TRYCMD=overwrite cargo test` rewrites
//! them. As they are on Linux, where there are all commands; on Windows the default store is another, too.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

#[test]
fn help_and_errors_are_as_recorded() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}
