//! Words for the user.

use std::io::Write;

/// Writes a line to stderr. Unlike `eprintln!` it does not panic where nobody reads any more, as in
/// `lakefold … 2>&1 | head`.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
