//! What docs/vidmm.md shows of the examples.

const PAGE: &str = include_str!("../../docs/vidmm.md");

/// Holds the page against what an example prints: the blocks that are marked with the
/// example's name are in that, word for word, and there is one at least.
///
/// # Panics
/// When it is not so, with the block and with what was printed.
pub fn check_page(example: &str, printed: &str) {
    let mark = format!("```{example}\n");
    let blocks = PAGE.split(mark.as_str()).skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "docs/vidmm.md shows nothing of it");
    for block in blocks {
        assert!(
            printed.contains(block),
            "docs/vidmm.md shows\n{block}\nit prints\n{printed}"
        );
    }
}
