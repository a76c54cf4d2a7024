//! The checks of tables, fills, copies, fences.

use super::checks::{Checks, content, expect, index, made_of, noise, pte};
use super::packets::{SAVE_AREA, rectangles};
use super::{Board, Driver, Id, Pool, Request, Result};
use crate::Check;
use presil_device::VramOffset;

const PAGE: u64 = 4096;
/// Bytes around every target that must not change.
const GUARD: u64 = 1024;
/// Ends inside a row, at a row, one pixel past it; crosses 64 KiB; several rows.
const SIZES: [u64; 6] = [4, 252, 65532, 65536, 65540, 3 * 65536 + 1028];
const POOLS: [Pool; 4] = [
    Pool::LocalVisible,
    Pool::LocalHidden,
    Pool::Unsnooped,
    Pool::Snooped,
];

/// Tables, fills, copies and fences. VRAM was filled with the noise of `seed`.
pub fn data_checks(driver: &mut Driver, seed: u64) -> Vec<Check> {
    let mut checks = Checks::new(driver);
    checks.run("fresh local memory is zero", |driver| {
        fresh_local(driver, seed)
    });
    checks.run("GART pages lead where their PTEs say", walks);
    for pool in POOLS {
        checks.run(format!("fill {pool:?}"), |driver| fills(driver, pool));
        for to in POOLS {
            let name = format!("copy {pool:?} to {to:?}");
            checks.run(name, |driver| copies(driver, pool, to));
        }
    }
    checks.run("a copy of many rows", many_rows);
    checks.run(
        "a GART address is used again with other pages",
        reused_address,
    );
    checks.run("a context is saved and restored", context);
    checks.run("the ring wraps", wraps);
    checks.run("video rings return their fences", video);
    checks.run("all six fences hold the last id", six_fences);
    checks.run("every fence came by interrupt", interrupts);
    checks.run("invalidations are masked", invalidations);
    checks.end(0)
}

/// Local memory is cleared at allocation; what lies behind keeps its garbage.
fn fresh_local(driver: &mut Driver, seed: u64) -> Result<String> {
    for pool in [Pool::LocalVisible, Pool::LocalHidden] {
        let bytes = 9 * PAGE + 65536;
        let id = driver.allocate(Request::new(bytes, pool))?;
        driver.finish(id)?;
        let (_, at) = driver.locate(id);
        let peek = |at: u64, bytes: u64| {
            let mut data = vec![0; index(bytes)];
            let read = driver.mm.board.gpu().vram().read(VramOffset(at), &mut data);
            read.map(|()| data).map_err(|e| e.to_string())
        };
        expect("fresh", &peek(at, bytes)?, &vec![0; index(bytes)])?;
        let behind = Board::garbage(seed, at + bytes).to_le_bytes();
        expect("behind", &peek(at + bytes, 8)?, &behind)?;
        driver.free(id)?;
    }
    Ok("segment 1 and hidden".into())
}

/// Every PTE of an allocation, and the dummy page before and after.
fn walks(driver: &mut Driver) -> Result<String> {
    for (pool, attributes) in [(Pool::Unsnooped, 0b0011), (Pool::Snooped, 0b0111)] {
        let id = driver.allocate(Request::new(40 * PAGE, pool))?;
        let block = driver.get(id)?.block.clone();
        for (n, frame) in (0..).zip(&block.frames) {
            let (found, wanted) = (pte(driver, block.at + n * PAGE), frame >> 8 | attributes);
            if found != wanted {
                return Err(format!(
                    "page {n} of {pool:?} is {found:#x}, expected {wanted:#x}"
                ));
            }
        }
        let scattered = block
            .frames
            .windows(2)
            .filter(|pair| pair[1] != pair[0] + PAGE)
            .count();
        if scattered < 20 {
            return Err("the pages are not scattered: this would prove little".into());
        }
        driver.free(id)?;
        let unmapped = driver.mm.tables.dummy >> 8 | attributes;
        let found = pte(driver, block.at + 39 * PAGE);
        if found != unmapped {
            return Err(format!(
                "after the end it is {found:#x}, expected {unmapped:#x}"
            ));
        }
    }
    let never = driver.mm.segments[3].start + (1 << 30);
    match pte(driver, never) {
        found if found == driver.mm.tables.dummy >> 8 | 1 => Ok("80 pages".into()),
        found => Err(format!("{never:#x}, never mapped, is {found:#x}")),
    }
}

/// Fills of every size, guard bytes on both sides unchanged.
fn fills(driver: &mut Driver, pool: Pool) -> Result<String> {
    for (pattern, bytes) in (0xA5C3_0F01..).zip(SIZES) {
        let mut wanted = noise(bytes, GUARD + bytes + GUARD);
        let id = made_of(driver, pool, &wanted)?;
        driver.fill(id, GUARD, bytes, pattern)?;
        for pixel in wanted[index(GUARD)..index(GUARD + bytes)].chunks_mut(4) {
            pixel.copy_from_slice(&pattern.to_le_bytes());
        }
        let found = read_back(driver, id, wanted.len() as u64)?;
        expect(&format!("fill of {bytes} bytes"), &found, &wanted)?;
        driver.free(id)?;
    }
    Ok(format!("{} sizes", SIZES.len()))
}

/// Copies of every size; guard bytes and the source unchanged.
fn copies(driver: &mut Driver, from: Pool, to: Pool) -> Result<String> {
    for bytes in SIZES {
        let source = noise(bytes ^ 0x5151, 256 + bytes);
        let mut wanted = noise(bytes ^ 0x7272, GUARD + bytes + GUARD);
        let src = made_of(driver, from, &source)?;
        let dst = made_of(driver, to, &wanted)?;
        driver.copy(dst, GUARD, src, 256, bytes)?;
        wanted[index(GUARD)..index(GUARD + bytes)].copy_from_slice(&source[256..]);
        let found = read_back(driver, dst, wanted.len() as u64)?;
        expect(&format!("copy of {bytes} bytes"), &found, &wanted)?;
        expect(
            "source",
            &read_back(driver, src, source.len() as u64)?,
            &source,
        )?;
        driver.free(src)?;
        driver.free(dst)?;
    }
    Ok(format!("{} sizes", SIZES.len()))
}

/// By the CPU where it can, else through the GPU.
fn read_back(driver: &mut Driver, id: Id, bytes: u64) -> Result<Vec<u8>> {
    if matches!(driver.locate(id).0, 4 | 5) {
        content(driver, id, bytes)
    } else {
        driver.read(id, 0, bytes)
    }
}

/// A size of the shape of the reference's example: many rows and a rest.
fn many_rows(driver: &mut Driver) -> Result<String> {
    let bytes = 2_394_300;
    if rectangles(bytes).len() != 2 {
        return Err("not rows and a rest: this would prove little".into());
    }
    let data = noise(17, bytes);
    let one = made_of(driver, Pool::LocalHidden, &data)?;
    let two = driver.allocate(Request::new(bytes, Pool::LocalHidden))?;
    driver.copy(two, 0, one, 0, bytes)?;
    expect("copy", &content(driver, two, bytes)?, &data)?;
    driver.free(one)?;
    driver.free(two)?;
    Ok(format!("{bytes} bytes"))
}

/// An allocation is destroyed and the next takes its address, with other pages.
fn reused_address(driver: &mut Driver) -> Result<String> {
    let mut first = None;
    for round in 1..=3_u8 {
        let id = driver.allocate(Request::new(32 * PAGE, Pool::Snooped))?;
        let (_, at) = driver.locate(id);
        if *first.get_or_insert(at) != at {
            return Err("another address: this would prove nothing".into());
        }
        driver.fill(id, 0, 32 * PAGE, u32::from_le_bytes([round; 4]))?;
        let found = driver.read(id, 0, 32 * PAGE)?;
        expect(&format!("round {round}"), &found, &vec![round; 32 * 4096])?;
        driver.free(id)?;
    }
    Ok("3 rounds".into())
}

/// The save buffer stores what the last commands set; the restore buffer
/// loaded the template before.
fn context(driver: &mut Driver) -> Result<String> {
    let id = driver.allocate(Request::new(65536, Pool::Unsnooped))?;
    driver.fill(id, 0, 65536, 7)?;
    driver.finish(id)?;
    let contexts = &driver.scheduler.contexts;
    let word = |word: u64| driver.mm.board.get(contexts, SAVE_AREA + word * 4, 4);
    let (_, at) = driver.locate(id);
    expect("RT0 address", &word(0x18)?, &(at >> 8).to_le_bytes()[..4])?;
    expect("clear colour", &word(0xC8)?, &[7, 0, 0, 0])?;
    expect("a word that nothing set", &word(0xFF)?, &[0; 4])?;
    driver.free(id)?;
    Ok("registers of the last fill".into())
}

/// More submissions than the ring holds, without waiting in between.
fn wraps(driver: &mut Driver) -> Result<String> {
    let id = driver.allocate(Request::new(PAGE, Pool::Snooped))?;
    for n in 0..1000 {
        driver.fill(id, 0, 4, n)?;
    }
    expect(
        "the last one",
        &driver.read(id, 0, 4)?,
        &999_u32.to_le_bytes(),
    )?;
    driver.free(id)?;
    Ok("1000 submissions".into())
}

fn video(driver: &mut Driver) -> Result<String> {
    for n in 1..super::scheduler::RINGS.len() {
        for _ in 0..3 {
            let fence = driver.scheduler.submit_video(&mut driver.mm, n)?;
            driver.scheduler.wait(&mut driver.mm, n, fence)?;
        }
    }
    Ok("rings 7, 8 and 9".into())
}

fn six_fences(driver: &mut Driver) -> Result<String> {
    let held = super::scheduler::Held::default();
    let fence = driver.scheduler.submit(&mut driver.mm, false, &[], held)?;
    driver.scheduler.wait(&mut driver.mm, 0, fence)?;
    driver.scheduler.drain(&mut driver.mm)?;
    while driver.mm.board.step() {}
    let slots = driver.scheduler.slot_values(&driver.mm.board)?;
    if slots == [fence; 6] {
        Ok(format!("{slots:?}"))
    } else {
        Err(format!("{slots:?}"))
    }
}

fn interrupts(driver: &mut Driver) -> Result<String> {
    let scheduler = &driver.scheduler;
    let found = format!(
        "{} interrupts, {} polls",
        scheduler.fence_interrupts, scheduler.polled
    );
    if scheduler.fence_interrupts > 0 && scheduler.polled == 0 {
        Ok(found)
    } else {
        Err(found)
    }
}

/// The usual one of the reference, and at least one that is not the same.
fn invalidations(driver: &mut Driver) -> Result<String> {
    let all = driver.mm.invalidations();
    let coarse = all.iter().filter(|(_, mask)| *mask == 0x0FE0_0000).count();
    let found = format!("{} invalidations, {coarse} of 8 GiB", all.len());
    let masked = all
        .iter()
        .all(|(address, mask)| (address | mask) & 0xF000_000F == 0);
    if masked && coarse > 0 && coarse < all.len() {
        Ok(found)
    } else {
        Err(found)
    }
}
