//! The figures as a table: for a terminal, and for the documentation.

use comfy_table::{ContentArrangement, Table, presets};

use crate::figures::Figure;
use crate::{Plan, machine};

const HEAD: [&str; 6] = ["figure", "replyvault", "held against", "ratio", "limit", "met"];

/// For people at a terminal.
pub(crate) fn terminal(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(HEAD).add_rows(figures.iter().map(Figure::cells));
    table
}

/// For a page: where it was measured, and the table.
pub(crate) fn markdown(figures: &[Figure], plan: &Plan) -> String {
    let mut text = String::new();
    for line in machine::describe() {
        text += &format!("- {line}\n");
    }
    if plan.smoke {
        text += "\nA smoke test: the figures mean nothing.\n";
    }
    text += &format!("\n| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len()));
    for figure in figures {
        text += &format!("| {} |\n", figure.cells().join(" | "));
    }
    text
}
