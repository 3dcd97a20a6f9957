//! The figures as a table: for a terminal, and for the documentation.

use std::fs;
use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};

use crate::failure::Failure;
use crate::figures::Figure;
use crate::machine;

const HEAD: [&str; 6] = ["figure", "replyvault", "held against", "ratio", "limit", "met"];

/// What the table stands between.
const BEGIN: &str = "<!-- measured by benches/run -->";
const END: &str = "<!-- end -->";

/// For people at a terminal.
pub(crate) fn terminal(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(HEAD).add_rows(figures.iter().map(Figure::cells));
    table
}

/// Puts the table into a page, and where it was measured, in the place of the one that is there.
pub(crate) fn put_into(page: &Path, figures: &[Figure]) -> Result<(), Failure> {
    let text = fs::read_to_string(page)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| Failure(format!("{}: expected {BEGIN} and {END}", page.display())))?;
    Ok(fs::write(page, format!("{before}{BEGIN}\n{}{END}{after}", markdown(figures)))?)
}

fn markdown(figures: &[Figure]) -> String {
    let mut text = String::new();
    for line in machine::describe() {
        text += &format!("- {line}\n");
    }
    text += &format!("\n| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len()));
    for figure in figures {
        text += &format!("| {} |\n", figure.cells().join(" | "));
    }
    text
}
