//! Colours of the picture for light and dark pages.
//!
//! Plain rules with an override for dark pages, so that programs that do not support `@media` show
//! the light picture.

use super::super::shade::{Paint, Shade};

struct Page {
    paper: &'static str,
    ink: &'static str,
    muted: &'static str,
    critical: &'static str,
}

const DAY: Page = Page {
    paper: "#ffffff",
    ink: "#1f2328",
    muted: "#6e7781",
    critical: "#d97706",
};

const NIGHT: Page = Page {
    paper: "#0d1117",
    ink: "#e6edf3",
    muted: "#9198a1",
    critical: "#f59e0b",
};

pub(super) fn style() -> String {
    let mut style = String::from(
        "text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace}
.name{font-size:13px;font-weight:600}.note{font-size:11px}.tag text,.legend text{font-size:11px}
.name,.note,.tag text{text-anchor:middle}
.box{stroke-width:1.2}.critical .box{stroke-width:3}
.route{fill:none;stroke-width:1.4}.critical .route{stroke-width:3}
.completed .route{stroke-dasharray:7 4}.any .route{stroke-dasharray:2 4}
",
    );
    style += &page(&DAY, Shade::paint);
    style += "@media (prefers-color-scheme:dark){\n";
    style += &page(&NIGHT, night);
    style += "}\n";
    style
}

fn page(page: &Page, paint: impl Fn(Shade) -> Paint) -> String {
    let Page {
        paper,
        ink,
        muted,
        critical,
    } = page;
    let mut rules = format!(
        ".paper,.tag rect{{fill:{paper}}}.legend text{{fill:{ink}}}.tag text{{fill:{muted}}}
.route{{stroke:{muted}}}.head{{fill:{muted}}}.critical .route{{stroke:{critical}}}.critical-head{{fill:{critical}}}.critical .tag text,.critical.tag text{{fill:{critical}}}
"
    );
    for shade in Shade::ALL {
        let Paint { fill, line, ink } = paint(shade);
        let class = shade.as_str();
        rules += &format!(
            ".{class} .box,.{class}.box{{fill:{fill};stroke:{line}}}.{class} text{{fill:{ink}}}\n"
        );
    }
    rules += &format!(".critical .box,.critical.box{{stroke:{critical}}}\n");
    rules
}

fn night(shade: Shade) -> Paint {
    let (fill, line, ink) = match shade {
        Shade::Waiting => ("#24292f", "#8c959f", "#d0d7de"),
        Shade::Held => ("#2e1065", "#a855f7", "#e9d5ff"),
        Shade::Running => ("#172554", "#3b82f6", "#dbeafe"),
        Shade::Succeeded => ("#052e16", "#22c55e", "#dcfce7"),
        Shade::Failed => ("#450a0a", "#ef4444", "#fee2e2"),
        Shade::UpstreamFailed => ("#431407", "#f97316", "#ffedd5"),
        Shade::Dropped => ("#161b22", "#57606a", "#8c959f"),
    };
    Paint { fill, line, ink }
}
