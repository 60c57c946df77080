//! The tasks that an ambiguous id or name may mean, for a person to choose from.

use claudine_domain::time::Timestamp;

use super::{
    table::{Column, Goes, Table},
    terminal::{Look, Painted},
    times,
};
use crate::{app::Candidate, text::ShortIds};

const COLUMNS: [Column; 5] = [
    Column::new("ID"),
    Column::new("STATE"),
    Column::new("NAME").optional().cut(24, 6),
    Column::new("AGE").goes(Goes::Early(1)),
    Column::new("WHAT").cut(24, 8),
];

/// One line for each candidate.
pub(super) fn table(candidates: &[Candidate], look: Look, now: Timestamp) -> Painted {
    let short = ShortIds::among(candidates.iter().map(|it| it.id.as_str()));
    let mut table = Table::new(&COLUMNS);
    for candidate in candidates {
        table.row([
            short.of(&candidate.id).into(),
            candidate.state.as_str().into(),
            candidate.name.as_deref().unwrap_or_default().into(),
            times::ago(&candidate.created_at, now).into(),
            candidate.summary.as_str().into(),
        ]);
    }
    table.shown(look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_shown_one_per_line() {
        let candidate = |id: &str, name: Option<&str>| Candidate {
            id: id.to_owned(),
            state: "failed".to_owned(),
            name: name.map(str::to_owned),
            summary: "cargo test --workspace --all-features -- --nocapture\nand more".to_owned(),
            created_at: "2026-11-22T14:51:33.042Z".to_owned(),
        };
        let two = [
            candidate("task_01kb2m8r4zq8w3v5x7y9abcdef", Some("nightly\u{1b}[2J")),
            candidate("task_01kb2m8r4zq8w3v5x7y8abcdef", None),
        ];
        let shown = |columns| {
            let look = Look {
                colours: false,
                columns,
            };
            let table = table(&two, look, Timestamp(1_795_359_153_042));
            table.as_str().to_owned()
        };
        insta::assert_snapshot!("at_60", shown(Some(60)));
        assert!(shown(Some(80)).contains("  1m00s  cargo test --"));
        assert!(shown(None).contains("--nocapture and more"));
    }
}
