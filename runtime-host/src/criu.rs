//! criu, which saves processes and restores them: whether it works here, and why it did not.

use std::path::Path;

/// The oldest that runtimes of the last years work with.
const OLDEST: (u32, u32) = (3, 16);
/// How much of its log an error carries.
const LOG_SHOWN: usize = 2048;

/// What it stops a container's network with, unless it was built for something else.
pub const NETWORK_LOCK: &str = "iptables-restore";

/// A file that every image of it has.
pub const LANDMARK: &str = "inventory.img";
/// What it writes to its working directory last, and only if all was saved.
pub const SAVED: &str = "stats-dump";

/// What one says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Its version.
    pub version: &'a str,
    /// The code of `criu check`.
    pub check: i32,
    /// The last words of `criu check`.
    pub complaint: &'a str,
    /// What it prints for `--help`.
    pub help: &'a str,
    /// Whether [`NETWORK_LOCK`] is there.
    pub has_lock: bool,
}

/// Whether it works here; who it is, or why not.
///
/// # Errors
/// Why not, as a sentence.
pub fn judge(criu: &Path, said: Said<'_>) -> Result<String, String> {
    let who = format!("{} {}", criu.display(), said.version);
    if is_too_old(said.version) {
        let (major, minor) = OLDEST;
        return Err(format!("{who} is too old: at least {major}.{minor} is needed"));
    }
    if said.check != 0 {
        return Err(format!("{who} does not work on this kernel: {}; a later criu may", said.complaint));
    }
    if locks_with_iptables(said.help) && !said.has_lock {
        return Err(format!(
            "{who} stops a container's network with {NETWORK_LOCK}, which is not on PATH: install iptables"
        ));
    }
    Ok(format!("{who} looks good"))
}

/// Its help says which way of stopping the network it takes unless told: `can be 'nftables' or 'iptables' (default)`.
fn locks_with_iptables(help: &str) -> bool {
    help.split_whitespace().collect::<Vec<_>>().join(" ").contains("'iptables' (default)")
}

fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    // An unreadable version is given the benefit of the doubt: `criu check` decides then.
    parts.next().is_some_and(|major| (major, parts.next().unwrap_or(0)) < OLDEST)
}

/// Makes the directory in which it works, anew.
///
/// # Errors
/// Why it cannot be made.
pub fn make_work(work: &Path) -> runtime_api::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let _ = crate::mounts::remove_all(work);
    let made = std::fs::DirBuilder::new().mode(0o700).create(work);
    made.map_err(|error| crate::document::cannot_write(work, error))
}

/// The end of its log.
#[must_use]
pub fn tail_of(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let tail = &bytes[bytes.len().saturating_sub(LOG_SHOWN)..];
    String::from_utf8_lossy(tail).into_owned()
}

/// Why it failed, from its log. Its last word is that it failed; the first error that is not a warning about limits is the
/// reason.
#[must_use]
pub fn reason(log: &str) -> Option<&str> {
    log.lines().find(|line| line.contains("Error (") && !line.contains("rlimit")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_too_old_are_told() {
        assert!(is_too_old("3.15.1") && is_too_old("2.0"));
        assert!(!is_too_old("3.16") && !is_too_old("4.1.1") && !is_too_old("unknown"));
    }

    #[test]
    fn the_default_network_lock_is_read_from_the_help() {
        assert!(locks_with_iptables("can be 'nftables' or\n      'iptables' (default)."));
        assert!(!locks_with_iptables("can be 'nftables' (default) or 'iptables'."));
    }

    #[test]
    fn the_first_error_is_the_reason() {
        let log = "x\n(00.1) Error (a.c:1): can't raise rlimit\n (00.2) Error (b.c:2): broken\nError (c.c:3): failed";
        assert_eq!(reason(log), Some("(00.2) Error (b.c:2): broken"));
        assert_eq!(reason("fine"), None);
    }
}
