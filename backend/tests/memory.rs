//! How much memory the largest GPU takes: of its own hardly any, and of VRAM
//! and the machine's memory what has been touched.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/large.rs"]
mod large;

#[test]
fn sixty_four_gib_of_vram_and_eight_of_gart_cost_what_is_touched() {
    let figures = large::measure();
    assert!(figures.anonymous <= 32 << 20, "{} bytes", figures.anonymous);
    let (taken, touched) = figures.vram;
    assert_eq!(taken, touched, "VRAM");
    let (taken, touched) = figures.ram;
    assert_eq!(taken, touched, "the machine's memory");
}
