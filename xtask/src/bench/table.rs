//! Measurements as a table: the two sides, their ratio, the target, and whether it was met. Losses
//! are shown just like gains.

#[derive(Default)]
pub(crate) struct Table {
    lines: Vec<String>,
    met: usize,
    missed: usize,
}

/// Target of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// No target; the figure is shown for comparison.
    None,
}

impl Table {
    /// Adds the ratio of `ours` to `theirs`, both in the same unit.
    pub(crate) fn ratio(
        &mut self,
        what: &str,
        ours: f64,
        against: &str,
        theirs: f64,
        unit: &str,
        target: Target,
    ) {
        let ratio = ours / theirs;
        let verdict = self.judge(ratio, target);
        let pair = format!("{} against {} {unit}", figure(ours), figure(theirs));
        self.line(&format!(
            "  {what:<50} {ratio:>7.2} × {against:<28} {pair:<30} {verdict}"
        ));
    }

    /// Adds the costs of a newer and an older binary, with the median ratio of their pairs.
    pub(crate) fn pairs(
        &mut self,
        what: &str,
        ratio: f64,
        (newer, older): (f64, f64),
        unit: &str,
        target: Target,
    ) {
        let verdict = self.judge(ratio, target);
        let pair = format!("{} against {} {unit}", figure(newer), figure(older));
        self.line(&format!("  {what:<50} {ratio:>7.2} × {pair:<30} {verdict}"));
    }

    /// Adds a count or an amount, with a target of its own instead of a ratio.
    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &str, target: Target) {
        let verdict = self.judge(value, target);
        self.line(&format!(
            "  {what:<50} {:>7}   {unit:<28} {:<30} {verdict}",
            figure(value),
            ""
        ));
    }

    pub(crate) fn section(&mut self, title: &str) {
        self.line(&format!("\n{title}"));
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.line(&format!("  {text}"));
    }

    pub(crate) fn failed(&mut self, name: &str, error: &anyhow::Error) {
        self.missed += 1;
        self.line(&format!("  {name} could not be measured: {error:#}"));
    }

    pub(crate) fn print(&self) {
        println!("\n==== all results ====");
        for line in &self.lines {
            println!("{line}");
        }
        println!("\n{} targets met, {} missed", self.met, self.missed);
    }

    fn line(&mut self, line: &str) {
        println!("{line}");
        self.lines.push(line.trim_end().to_owned());
    }

    fn judge(&mut self, value: f64, target: Target) -> String {
        let (met, text) = match target {
            Target::AtMost(most) => (value <= most, format!("≤ {}", figure(most))),
            Target::AtLeast(least) => (value >= least, format!("≥ {}", figure(least))),
            Target::None => return String::new(),
        };
        *(if met { &mut self.met } else { &mut self.missed }) += 1;
        format!("{text} {}", if met { "met" } else { "MISSED" })
    }
}

fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
