//! A machine as its files show it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The machine whose `/proc`, `/sys` and `/dev` are under a root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    pub(super) fn at(root: &Path) -> Machine {
        Machine { root: root.to_owned() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What a file says, without the white space around it; none where it cannot be read.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// A file's number.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Whether there is such a file or folder.
    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a folder, in order; none where there is no such.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The value of `name` in lines of `name: value` or `name value`, its first word.
    pub(super) fn field(&self, path: &str, name: &str) -> Option<String> {
        let text = self.read(path)?;
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim_start_matches(':').split_whitespace().next().map(str::to_owned)
    }

    /// What a command prints; none where it is not there, or where another machine is looked at. There a file says it, named by the
    /// command's words.
    pub(super) fn output(&self, command: &[&str]) -> Option<String> {
        if self.root != Path::new("/") {
            return self.read(&command.join(" "));
        }
        let (program, args) = command.split_first()?;
        let output =
            Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A list of CPUs as the kernel writes it: `0,2-3`.
pub(super) fn cpus(list: &str) -> Vec<usize> {
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().take(1 << 16).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine made of files; gone at the end.
    #[derive(Debug)]
    pub(in crate::cli::doctor) struct Fake(pub(in crate::cli::doctor) Machine);

    impl Fake {
        pub(in crate::cli::doctor) fn new(name: &str, files: &[(&str, &str)]) -> Fake {
            let root = std::env::temp_dir().join(format!("lunette-doctor-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&root).unwrap();
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Fake(Machine::at(&root))
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0.root);
        }
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(cpus("0,2-4,9"), [0, 2, 3, 4, 9]);
        assert!(cpus("").is_empty());
        assert!(cpus("x-y").is_empty());
        assert_eq!(cpus("0-99999999999").len(), 1 << 16);
    }

    #[test]
    fn fields_are_found_in_lines() {
        let fake = Fake::new("fields", &[("proc/meminfo", "MemTotal:   5 kB\nHugePages_Free:  7\n")]);
        assert_eq!(fake.0.field("/proc/meminfo", "HugePages_Free").as_deref(), Some("7"));
        assert_eq!(fake.0.field("/proc/meminfo", "Nothing"), None);
        assert_eq!(fake.0.number("/proc/nothing"), None);
    }
}
