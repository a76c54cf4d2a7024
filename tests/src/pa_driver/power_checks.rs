//! The checks of suspend, engine reset and hangs.

use super::checks::{Checks, content, expect, made_of, noise};
use super::interrupts;
use super::paging_checks::free_all;
use super::power::Hang;
use super::scheduler::Held;
use super::{Driver, Id, Pool, Request, Result};
use crate::Check;

const PIECE: u64 = 80 << 10;
const POOLS: [Pool; 4] = [
    Pool::LocalVisible,
    Pool::LocalHidden,
    Pool::Unsnooped,
    Pool::Snooped,
];
/// No packet has this opcode.
const NONSENSE: u32 = 0xA000_0000;

/// Everything that interrupts the chip's life. `seed`: what VRAM holds after
/// its power was gone.
pub fn power_checks(driver: &mut Driver, seed: u64) -> Vec<Check> {
    let mut checks = Checks::new(driver);
    checks.run("without interrupts fences are polled", polled);
    checks.run("a lost interrupt is no hang", fake_hang);
    checks.run("suspend and resume without power", |driver| {
        suspend(driver, Some(seed))
    });
    checks.run("suspend and resume with an engine reset", |driver| {
        suspend(driver, None)
    });
    checks.run("a hang is reset and work goes on", hang);
    checks.run("suspend and resume again", |driver| {
        suspend(driver, Some(seed ^ 1))
    });
    checks.end(1)
}

/// One allocation in each pool, with its own data.
fn one_of_each(driver: &mut Driver) -> Result<Vec<Id>> {
    let pools = (0..).zip(POOLS);
    pools
        .map(|(seed, pool)| made_of(driver, pool, &noise(seed, PIECE)))
        .collect()
}

fn expect_each(driver: &mut Driver, all: &[Id], when: &str) -> Result<()> {
    for (seed, id) in (0..).zip(all) {
        let found = content(driver, *id, PIECE)?;
        expect(
            &format!("{when}, piece {seed}"),
            &found,
            &noise(seed, PIECE),
        )?;
    }
    Ok(())
}

fn polled(driver: &mut Driver) -> Result<String> {
    let scheduler = &mut driver.scheduler;
    scheduler.drain(&mut driver.mm)?;
    interrupts::disable(&mut driver.mm.board);
    let (polled, interrupts) = (scheduler.polled, scheduler.fence_interrupts);
    let data = noise(1, PIECE);
    let id = made_of(driver, Pool::LocalHidden, &data)?;
    expect("content", &content(driver, id, PIECE)?, &data)?;
    driver.free(id)?;
    interrupts::enable(&mut driver.mm.board)?;
    let polls = driver.scheduler.polled - polled;
    if polls == 0 || driver.scheduler.fence_interrupts != interrupts {
        return Err(format!("{polls} polls"));
    }
    Ok(format!("{polls} polls"))
}

fn fake_hang(driver: &mut Driver) -> Result<String> {
    interrupts::disable(&mut driver.mm.board);
    let id = driver.allocate(Request::new(PIECE, Pool::LocalVisible))?;
    while driver.mm.board.step() {}
    let early = driver.check_hang()?;
    driver.scheduler.now_ms += 61_000;
    let late = driver.check_hang()?;
    if (early, late) != (Hang::None, Hang::Fake) {
        return Err(format!("{early:?}, then {late:?}"));
    }
    driver.free(id)?;
    Ok("fake".into())
}

/// VRAM holds the pattern of the seed at resume, if its power was gone.
fn suspend(driver: &mut Driver, seed: Option<u64>) -> Result<String> {
    let all = one_of_each(driver)?;
    let places: Vec<_> = all.iter().map(|id| driver.locate(*id)).collect();
    let saved = driver.suspend()?;
    if let Some(seed) = seed {
        driver.mm.board.lose_power(seed)?;
    }
    driver.resume(&saved, seed.is_some())?;
    for (id, place) in all.iter().zip(places) {
        if driver.locate(*id) != place {
            return Err(format!(
                "{id:?} is at {:x?}, was at {place:x?}",
                driver.locate(*id)
            ));
        }
    }
    expect_each(driver, &all, "after resume")?;
    // New work, with new pages in the window.
    driver.page_out(1, &[])?;
    expect_each(driver, &all, "paged in")?;
    free_all(driver, &all)?;
    Ok("every pool".into())
}

/// The ring halts at nonsense; what was sent behind it never runs.
fn hang(driver: &mut Driver) -> Result<String> {
    let all = one_of_each(driver)?;
    let mm = &mut driver.mm;
    mm.board.expected.push(60003); // a packet that the chip does not have
    driver
        .scheduler
        .submit(mm, false, &[NONSENSE], Held::default())?;
    driver.fill(all[0], 0, PIECE, 0xDEAD_DEAD)?;
    let stuck = driver.scheduler.drain(&mut driver.mm);
    let busy = driver.mm.board.read(0x30000) & 1;
    driver.scheduler.now_ms += 61_000;
    let found = driver.check_hang()?;
    if stuck.is_ok() || busy != 1 || found != Hang::Reset {
        return Err(format!("{stuck:?}, CSP busy {busy}, then {found:?}"));
    }
    expect_each(driver, &all, "after the reset")?;
    driver.page_out(1, &[])?;
    expect_each(driver, &all, "paged in")?;
    free_all(driver, &all)?;
    Ok("reset".into())
}
