//! `presil serve --defect`: the names of what can be broken, and their list.

use std::fmt::Write;

use presil_device::{Defect, DefectGroup};

/// What one name of the option asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The list.
    Help,
    /// A chip that is broken so.
    Of(Defect),
}

/// Reads a name.
///
/// # Errors
/// No defect has it: what to do is said.
pub fn parse(name: &str) -> Result<Asked, String> {
    match Defect::from_name(name) {
        Some(defect) => Ok(Asked::Of(defect)),
        None if name == "help" => Ok(Asked::Help),
        None => Err(format!(
            "no defect has this name{}; --defect help lists all",
            similar(name)
        )),
    }
}

/// The defect that was perhaps meant.
fn similar(name: &str) -> String {
    let mut all = Defect::ALL.iter().map(|defect| defect.name());
    let meant = all.find(|known| known.starts_with(name) || name.starts_with(known));
    meant.map_or_else(String::new, |known| format!(", but {known} is one"))
}

/// All of them, by groups.
pub fn list() -> String {
    let width = Defect::ALL.iter().map(|defect| defect.name().len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::from(
        "One thing that a broken chip does; give several with commas, or --defect again.\n",
    );
    for group in DefectGroup::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{}", group.name());
        for defect in Defect::ALL.iter().filter(|defect| defect.group() == *group) {
            let _ = writeln!(text, "  {:<width$}  {}", defect.name(), defect.what());
        }
    }
    text
}
