//! What every check stands on.

use super::{Driver, Id, Pool, Request, Result};
use crate::Check;
use presil_device::{GpuVa, Vram};

/// Runs checks one after the other, each on a driver without allocations.
pub(super) struct Checks<'a> {
    driver: &'a mut Driver,
    before: Holdings,
    results: Vec<Check>,
}

impl<'a> Checks<'a> {
    pub(super) fn new(driver: &'a mut Driver) -> Self {
        Self {
            before: holdings(driver),
            driver,
            results: Vec::new(),
        }
    }

    /// One check; what it leaves behind when it fails is destroyed.
    pub(super) fn run(
        &mut self,
        name: impl Into<String>,
        check: impl FnOnce(&mut Driver) -> Result<String>,
    ) {
        let outcome = check(self.driver);
        let ok = outcome.is_ok();
        if !ok {
            self.driver.destroy_all();
        }
        self.results.push(Check {
            name: name.into(),
            ok,
            detail: outcome.unwrap_or_else(|error| error),
        });
    }

    /// The last checks: of what all before have done. `ring_errors` were provoked.
    pub(super) fn end(mut self, ring_errors: u64) -> Vec<Check> {
        self.run("the GPU has nothing to complain about", |driver| {
            quiet(driver, ring_errors)
        });
        let before = std::mem::take(&mut self.before);
        self.run("memory after is memory before", |driver| {
            driver.scheduler.drain(&mut driver.mm)?;
            let now = holdings(driver);
            if now == before {
                return Ok(format!("{now:?}"));
            }
            Err(format!("{now:?}, before {before:?}"))
        });
        self.results
    }
}

/// Free bytes of each segment and of the window, and pages in use.
type Holdings = (Vec<u64>, u64, usize);

fn holdings(driver: &Driver) -> Holdings {
    let free = driver.mm.segments.iter().map(super::Segment::free_bytes);
    let pages = driver.mm.board.ram().owned();
    (free.collect(), driver.mm.window.free_bytes(), pages)
}

/// The word at an offset of [`noise`].
pub(super) fn word(seed: u64, at: u64) -> u64 {
    Vram::pattern(seed ^ 0x5EED << 32, at)
}

/// Bytes that no two seeds share.
pub(super) fn noise(seed: u64, bytes: u64) -> Vec<u8> {
    let mut data = vec![0; index(bytes.next_multiple_of(8))];
    for (chunk, at) in data.chunks_exact_mut(8).zip((0..).step_by(8)) {
        chunk.copy_from_slice(&word(seed, at).to_le_bytes());
    }
    data.truncate(index(bytes));
    data
}

pub(super) fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

pub(super) fn expect(what: &str, found: &[u8], wanted: &[u8]) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    match found.iter().zip(wanted).position(|(f, w)| f != w) {
        None => Err(format!(
            "{what}: {} bytes, expected {}",
            found.len(),
            wanted.len()
        )),
        Some(at) => Err(format!(
            "{what}: byte {at:#x} of {:#x} is {:#04x}, expected {:#04x}",
            found.len(),
            found[at],
            wanted[at]
        )),
    }
}

/// An allocation that holds `data`. What the CPU does not see is copied in.
pub(super) fn made_of(driver: &mut Driver, pool: Pool, data: &[u8]) -> Result<Id> {
    let bytes = data.len() as u64;
    let id = driver.allocate(Request::new(bytes, pool))?;
    if matches!(driver.locate(id).0, 4 | 5) {
        let staging = driver.allocate(Request::new(bytes, Pool::Unsnooped))?;
        driver.write(staging, 0, data)?;
        driver.copy(id, 0, staging, 0, bytes.next_multiple_of(4))?;
        driver.free(staging)?;
    } else {
        driver.write(id, 0, data)?;
    }
    Ok(id)
}

/// The content of an allocation, as the GPU reads it.
pub(super) fn content(driver: &mut Driver, id: Id, bytes: u64) -> Result<Vec<u8>> {
    let staging = driver.allocate(Request::new(bytes, Pool::Snooped))?;
    driver.write(staging, 0, &noise(99, bytes))?;
    driver.copy(staging, 0, id, 0, bytes.next_multiple_of(4))?;
    let found = driver.read(staging, 0, bytes)?;
    driver.free(staging)?;
    Ok(found)
}

/// The last-level entry that the model finds.
pub(super) fn pte(driver: &Driver, at: u64) -> u64 {
    let walk = driver.mm.board.gpu().walk(0, GpuVa(at));
    walk.l3.map_or(u64::MAX, u64::from)
}

/// No fault, no refused or misused register, no access to a page that nobody
/// owns or in the wrong way; `ring_errors` were provoked.
fn quiet(driver: &mut Driver, ring_errors: u64) -> Result<String> {
    let c = driver.mm.board.counters();
    let misuse = c.refused_accesses + c.read_only_writes + c.reserved_writes + c.wrong_widths;
    let faults = c.faults + c.bus_errors + c.unmet_waits;
    let violations = driver.mm.board.ram().violations();
    if misuse + faults == 0 && c.ring_errors == ring_errors && violations.is_empty() {
        return Ok(format!("{} packets", c.packets));
    }
    let errors: Vec<String> = driver
        .mm
        .board
        .gpu()
        .ring_errors()
        .map(ToString::to_string)
        .collect();
    Err(format!("{c:?}; {violations:.3?}; {errors:?}"))
}
