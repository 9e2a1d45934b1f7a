//! How much memory a session may use when nobody says so.

/// Four fifths of [`physical_memory`]: the rest is for what the pool does not count, such as
/// decoded batches on their way between operators, and for other programs. `None` where the
/// machine's memory is not known.
pub fn default_memory_limit() -> Option<usize> {
    physical_memory().map(|bytes| bytes / 5 * 4)
}

/// The memory of this machine or of the container (control group) around this process, whichever
/// is less; `None` on systems without `/proc`.
pub fn physical_memory() -> Option<usize> {
    let machine = read("/proc/meminfo").and_then(|text| mem_total(&text));
    let container = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .into_iter()
    .filter_map(read)
    .find_map(|text| text.trim().parse().ok());
    // Without a limit, version 1 of control groups reports a number near 2⁶³ and version 2 "max".
    machine.into_iter().chain(container).min()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn mem_total(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_kibibytes() {
        let text = "MemTotal:       16307576 kB\nMemFree:         1234 kB\n";
        assert_eq!(mem_total(text), Some(16_307_576 * 1024));
        assert_eq!(mem_total("nothing"), None);
    }
}
