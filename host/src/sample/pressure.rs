//! Reads the memory stalls that the kernel measures (PSI). They are the first sign of too little
//! memory, seconds before the kernel kills processes.

use std::path::Path;

use crate::fsx::read_virtual_text;

/// The percentage of the last ten seconds in which at least one process stalled on memory. It is
/// measured in the control group whose limit applies to us, since stalls of other control groups
/// within their own limits do not matter here. If this control group is not known, the percentage
/// is that of the machine.
pub(super) fn stall_percent(root: &Path, group: Option<&Path>) -> Option<f64> {
    let of_machine = root.join("proc/pressure/memory");
    let read = |path: &Path| parse(&read_virtual_text(path).ok()?);
    group.and_then(read).or_else(|| read(&of_machine))
}

/// Parses the value of `some avg10` in `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse(text: &str) -> Option<f64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::sample::cgroup::tests::tree;

    const MACHINE: &str = "some avg10=12.34 avg60=1.00 avg300=0.00 total=12\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";

    #[test]
    fn stalls_of_the_machine_are_used_only_if_those_of_the_cgroup_are_unknown() {
        let check = |files: &[(&str, &str)], group: Option<&str>, expected: Option<f64>| {
            let root = tree(files);
            let group = group.map(|group| root.path().join(group));
            let found = stall_percent(root.path(), group.as_deref());
            assert_eq!(found, expected, "{files:?}");
        };
        let machine = ("proc/pressure/memory", MACHINE);
        let group = ("group/memory.pressure", "some avg10=3.00 avg60=0.00\n");
        let at = Some("group/memory.pressure");
        check(&[machine], None, Some(12.34));
        check(&[machine, group], at, Some(3.0));
        check(&[machine], at, Some(12.34));
        check(&[], at, None);
        check(&[("proc/pressure/memory", "nothing here")], None, None);
        check(&[("proc/pressure/memory", "some avg10=much\n")], None, None);
    }
}
