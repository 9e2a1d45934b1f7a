//! How much memory a session may use when nobody says so.

/// Four fifths of [`physical_memory`]: the rest is for what the pool does not count, such as
/// decoded batches on their way between operators, and for other programs. `None` where the
/// machine's memory is not known.
pub fn default_memory_limit() -> Option<usize> {
    physical_memory().map(|bytes| bytes / 5 * 4)
}

/// The memory of this machine or the least limit of the control groups (of a container, a service, a
/// batch job) around this process, whichever is less; `None` on systems without `/proc`.
pub fn physical_memory() -> Option<usize> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| mem_total(&text));
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups)
        .into_iter()
        .filter_map(|path| read(&path)?.trim().parse().ok());
    // Without a limit, version 1 of control groups reports a number near 2⁶³ and version 2 "max".
    machine.into_iter().chain(limits).min()
}

/// The files that may hold a limit: of the process's own group and of every group around it, up to
/// the root. `groups` is `/proc/self/cgroup`, lines of `hierarchy:controllers:path`; version 2 has
/// hierarchy 0 and no list of controllers.
///
/// In a container the path may be the one outside, which is not mounted inside; the root is, and is the
/// container's own group there.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{name}"));
            match path.rfind('/') {
                Some(end) => path = &path[..end],
                None => break,
            }
        }
    }
    files
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

    #[test]
    fn limits_of_every_group_around_the_process_count() {
        assert_eq!(
            limit_files("0::/user.slice/job.scope\n"),
            [
                "/sys/fs/cgroup/user.slice/job.scope/memory.max",
                "/sys/fs/cgroup/user.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(limit_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            limit_files("5:cpu,cpuacct:/a\n4:memory:/docker/x:y\nbroken"),
            [
                "/sys/fs/cgroup/memory/docker/x:y/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert!(limit_files("").is_empty());
    }
}
