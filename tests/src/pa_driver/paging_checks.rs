//! The checks of paging. Data is compared where it lies while it is paged
//! out, and as the GPU reads it when it is back.

use super::checks::{Checks, content, expect, made_of, noise, pte};
use super::{Driver, Id, Pool, Request, Result};
use crate::Check;

const PIECE: u64 = 80 << 10;

/// Everything about paging out and in.
pub fn paging_checks(driver: &mut Driver) -> Vec<Check> {
    let mut checks = Checks::new(driver);
    for pool in [Pool::LocalVisible, Pool::LocalHidden] {
        let name = format!("out of {pool:?} and in again");
        checks.run(name, |driver| round_trip(driver, pool));
    }
    for pool in [Pool::Unsnooped, Pool::Snooped] {
        let name = format!("out of {pool:?} and in again");
        checks.run(name, |driver| gart_round_trip(driver, pool));
    }
    checks.run("the window is used again with other pages", window_again);
    checks.run("pressure evicts and loses nothing", pressure);
    checks.run(
        "without room an allocation begins in the system cache",
        cached,
    );
    checks.run("a page-out that fails half way leaves the rest", half_way);
    checks.run("through a file", file);
    checks.end(0)
}

/// Paged out, the pages hold the data and the place is free; paged in, it is
/// at another place.
fn round_trip(driver: &mut Driver, pool: Pool) -> Result<String> {
    let data = noise(3, PIECE);
    let id = made_of(driver, pool, &data)?;
    let (segment, at) = driver.locate(id);
    let free = driver.mm.segments[segment].free_bytes();
    if driver.page_out(segment, &[])? != 1 || driver.locate(id).0 != 0 {
        return Err("it was not paged out".into());
    }
    if driver.mm.segments[segment].free_bytes() != free + PIECE {
        return Err("its place was not freed".into());
    }
    expect("while out", &driver.read(id, 0, PIECE)?, &data)?;
    let other = made_of(driver, pool, &noise(4, PIECE))?;
    if driver.locate(other) != (segment, at) {
        return Err("its place was not used again: this would prove little".into());
    }
    driver.page_in(id, &[])?;
    driver.finish(id)?;
    driver.scheduler.drain(&mut driver.mm)?;
    if driver.locate(id).0 != segment || driver.locate(id).1 == at {
        return Err(format!("it came back at {:x?}", driver.locate(id)));
    }
    expect("back", &content(driver, id, PIECE)?, &data)?;
    expect(
        "its successor",
        &content(driver, other, PIECE)?,
        &noise(4, PIECE),
    )?;
    free_all(driver, &[id, other])?;
    Ok(format!("{PIECE} bytes"))
}

/// Nothing is copied: the PTEs go to the dummy page and come back elsewhere.
fn gart_round_trip(driver: &mut Driver, pool: Pool) -> Result<String> {
    let data = noise(5, PIECE);
    let id = made_of(driver, pool, &data)?;
    let (segment, at) = driver.locate(id);
    let copies = driver.mm.board.counters().copies;
    driver.page_out(segment, &[])?;
    if driver.mm.board.counters().copies != copies {
        return Err("pages were copied to pages".into());
    }
    if pte(driver, at) >> 4 != driver.mm.tables.dummy >> 12 {
        return Err(format!("the PTE of {at:#x} is {:#x}", pte(driver, at)));
    }
    let other = driver.allocate(Request::new(PIECE, pool))?;
    expect("back", &content(driver, id, PIECE)?, &data)?;
    if driver.locate(id).1 == at {
        return Err("it came back at its old place: this would prove little".into());
    }
    free_all(driver, &[id, other])?;
    Ok(format!("{PIECE} bytes"))
}

/// The same window addresses have other pages behind them each time.
fn window_again(driver: &mut Driver) -> Result<String> {
    for seed in 0..4 {
        let data = noise(seed, PIECE);
        let id = made_of(driver, Pool::LocalVisible, &data)?;
        driver.page_out(1, &[])?;
        expect(
            &format!("out, round {seed}"),
            &driver.read(id, 0, PIECE)?,
            &data,
        )?;
        driver.page_in(id, &[])?;
        expect(
            &format!("in, round {seed}"),
            &driver.read(id, 0, PIECE)?,
            &data,
        )?;
        driver.free(id)?;
    }
    Ok("4 rounds".into())
}

/// Allocations of odd sizes until segment 1 is full, each with its own data.
fn crowd(driver: &mut Driver) -> Result<Vec<(Id, u64)>> {
    let mut all = Vec::new();
    for n in 0.. {
        let bytes = (9 + n % 13) * 4096;
        let id = made_of(driver, Pool::LocalVisible, &noise(n, bytes))?;
        all.push((id, bytes));
        if driver.locate(id).0 == 0 {
            break;
        }
    }
    Ok(all)
}

fn pressure(driver: &mut Driver) -> Result<String> {
    let all = crowd(driver)?;
    let display = Request {
        display: true,
        priority: None,
        ..Request::new(1 << 20, Pool::LocalVisible)
    };
    let surface = driver.allocate(display)?;
    let out: Vec<_> = all
        .iter()
        .filter(|(id, _)| driver.locate(*id).0 == 0)
        .collect();
    let evicted = out.len();
    if driver.locate(surface).0 != 1 || evicted < 20 {
        return Err(format!(
            "the surface is in {:?}, {evicted} are out",
            driver.locate(surface)
        ));
    }
    expect(
        "the surface",
        &driver.read(surface, 0, 1 << 20)?,
        &vec![0; 1 << 20],
    )?;
    // Twice: bringing one in evicts another.
    for round in 0..2 {
        for (seed, (id, bytes)) in (0..).zip(&all) {
            let found = content(driver, *id, *bytes)?;
            expect(
                &format!("round {round}, piece {seed}"),
                &found,
                &noise(seed, *bytes),
            )?;
        }
    }
    expect(
        "the surface",
        &driver.read(surface, 0, 1 << 20)?,
        &vec![0; 1 << 20],
    )?;
    for (id, _) in &all {
        driver.free(*id)?;
    }
    driver.free(surface)?;
    Ok(format!(
        "{} pieces, {evicted} evicted for one surface",
        all.len()
    ))
}

/// The last one of the crowd had no place; the GPU's first use finds one.
fn cached(driver: &mut Driver) -> Result<String> {
    let all = crowd(driver)?;
    let Some((last, bytes)) = all.last().copied() else {
        return Err("no crowd".into());
    };
    driver.fill(last, 4096, 4096, 0x0102_0304)?;
    let mut wanted = noise(all.len() as u64 - 1, bytes);
    for pixel in wanted[4096..8192].chunks_mut(4) {
        pixel.copy_from_slice(&0x0102_0304_u32.to_le_bytes());
    }
    if driver.locate(last).0 != 1 {
        return Err(format!("it is in {:?}", driver.locate(last)));
    }
    expect("it", &driver.read(last, 0, bytes)?, &wanted)?;
    for (id, _) in all {
        driver.free(id)?;
    }
    Ok(format!("{bytes} bytes"))
}

/// Pages for three of eight only: three go, five stay, all keep their data.
fn half_way(driver: &mut Driver) -> Result<String> {
    let mut all = Vec::new();
    for n in 0..8 {
        all.push(made_of(driver, Pool::LocalVisible, &noise(n, PIECE))?);
    }
    driver.scheduler.drain(&mut driver.mm)?;
    let budget = driver.mm.board.page_budget;
    driver.mm.board.page_budget = driver.mm.board.ram().owned() + 70;
    let count = driver.page_out(1, &[]);
    driver.mm.board.page_budget = 0;
    let none = driver.page_out(1, &[]);
    driver.mm.board.page_budget = budget;
    if count != Ok(3) || none.is_ok() {
        return Err(format!("{count:?} went, then {none:?}"));
    }
    for (seed, id) in (0..).zip(&all) {
        let out = driver.locate(*id).0 == 0;
        if out != (seed < 3) {
            return Err(format!("piece {seed} is in {:?}", driver.locate(*id)));
        }
        expect(
            &format!("piece {seed}"),
            &driver.read(*id, 0, PIECE)?,
            &noise(seed, PIECE),
        )?;
        expect(
            &format!("piece {seed}, in"),
            &content(driver, *id, PIECE)?,
            &noise(seed, PIECE),
        )?;
    }
    free_all(driver, &all)?;
    Ok("3 of 8".into())
}

fn file(driver: &mut Driver) -> Result<String> {
    let data = noise(8, PIECE);
    let id = made_of(driver, Pool::LocalHidden, &data)?;
    let owned = driver.mm.board.ram().owned();
    let (segment, _) = driver.locate(id);
    driver.page_out(segment, &[])?;
    driver.swap_out(id)?;
    if driver.mm.board.ram().owned() != owned {
        return Err("its pages were not freed".into());
    }
    expect("back", &content(driver, id, PIECE)?, &data)?;
    driver.free(id)?;
    Ok(format!("{PIECE} bytes"))
}

pub(super) fn free_all(driver: &mut Driver, all: &[Id]) -> Result<()> {
    all.iter().try_for_each(|id| driver.free(*id))
}
