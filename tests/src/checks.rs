//! The data checks: everything a GPU that only pretends would fail. They
//! return named results, so that the same list can be run on broken models.

use crate::guest::Guest;
use e3k_regs::pte::L3Entry;
use e3k_regs::{BusAddr, GpuVa, VramOffset};
use presil_device::Vram;
use vidmm::{BoId, CreateFlags, Error, SegmentId};

const PAGE: u64 = 4096;
/// Bytes around every target that must not change.
const GUARD: u64 = 1024;
/// Ends inside a row, at a row, one pixel past it; crosses 64 KiB; several rows.
const SIZES: [u64; 8] = [4, 252, 4096, 65532, 65536, 65540, 3 * 65536 + 1028, 400_004];

/// One result.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// The names of the checks that failed.
pub fn failed(checks: &[Check]) -> Vec<&str> {
    let failed = checks.iter().filter(|check| !check.ok);
    failed.map(|check| check.name.as_str()).collect()
}

type Outcome = Result<String, String>;

/// Runs every check. VRAM was filled with the pattern of `seed`.
pub fn data_checks(guest: &mut Guest, seed: u64) -> Vec<Check> {
    let usage = guest.adapter.segments();
    let pages = guest.machine.ram().owned();
    let mut checks = Vec::new();
    let mut add = |name: String, outcome: Outcome| {
        let ok = outcome.is_ok();
        let detail = outcome.unwrap_or_else(|e| e);
        checks.push(Check { name, ok, detail });
    };
    for place in PLACES {
        add(format!("fill {}", place.name), fills(guest, place));
        for to in PLACES {
            add(
                format!("copy {} to {}", place.name, to.name),
                copies(guest, place, to),
            );
        }
    }
    add(
        "fresh local memory is zero".into(),
        fresh_local(guest, seed),
    );
    add("fresh RAM is zero".into(), fresh_ram(guest));
    for flags in [CreateFlags::READBACK, CreateFlags::UPLOAD] {
        let segment = if flags == CreateFlags::READBACK {
            "pcie-snoop"
        } else {
            "pcie-unsnoop"
        };
        add(
            format!("first touch binds {segment}"),
            first_touch(guest, flags),
        );
    }
    add(
        "neighbours bound later are reached".into(),
        late_neighbour(guest),
    );
    add(
        "a reused GPU address reaches the new pages".into(),
        reused_address(guest),
    );
    add("every fence came by interrupt".into(), fences(guest));
    add("no faults and no errors on the GPU".into(), quiet(guest));
    add("usage after free equals usage before".into(), {
        guest.adapter.reap();
        let owned = guest.machine.ram().owned();
        if guest.adapter.segments() == usage && owned == pages {
            Ok(format!("{owned} RAM pages"))
        } else {
            Err(format!(
                "{owned} RAM pages, {pages} before; {:?}",
                guest.adapter.segments()
            ))
        }
    });
    checks
}

/// Where a BO can be made to lie.
#[derive(Clone, Copy)]
struct PlaceName {
    name: &'static str,
    flags: CreateFlags,
    segment: SegmentId,
}

const PLACES: [PlaceName; 4] = [
    PlaceName {
        name: "local-visible",
        flags: CreateFlags::GPU_MOSTLY,
        segment: SegmentId::LocalVisible,
    },
    PlaceName {
        name: "local-invisible",
        flags: CreateFlags::GPU_ONLY,
        segment: SegmentId::LocalInvisible,
    },
    PlaceName {
        name: "pcie-snoop",
        flags: CreateFlags::READBACK,
        segment: SegmentId::PcieSnoop,
    },
    PlaceName {
        name: "pcie-unsnoop",
        flags: CreateFlags::UPLOAD,
        segment: SegmentId::PcieUnsnoop,
    },
];

/// Bytes that no two seeds share.
fn noise(seed: u64, bytes: u64) -> Vec<u8> {
    let words = (0..bytes.div_ceil(8)).flat_map(|n| Vram::pattern(seed, n * 8).to_le_bytes());
    words.take(usize::try_from(bytes).unwrap_or(0)).collect()
}

fn text(error: Error) -> String {
    error.to_string()
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A BO in `place`, holding `data`.
fn made_of(guest: &mut Guest, place: PlaceName, data: &[u8]) -> Result<BoId, String> {
    let bo = guest.create(data.len() as u64, place.flags).map_err(text)?;
    let segment = guest.adapter.describe(bo).map_err(text)?.segment;
    if segment != place.segment {
        return Err(format!("placed in {}", segment.name()));
    }
    put(guest, bo, data)?;
    Ok(bo)
}

/// Writes a whole BO; what the CPU cannot reach goes through a staging BO.
fn put(guest: &mut Guest, bo: BoId, data: &[u8]) -> Result<(), String> {
    match guest.write(bo, 0, data) {
        Err(Error::Fault) => {}
        result => return result.map_err(text),
    }
    let bytes = data.len() as u64;
    let staging = guest.create(bytes, CreateFlags::UPLOAD).map_err(text)?;
    guest.write(staging, 0, data).map_err(text)?;
    let fence = guest.adapter.copy(bo, 0, staging, 0, bytes).map_err(text)?;
    guest.wait(fence).map_err(text)?;
    guest.adapter.destroy(staging).map_err(text)
}

/// Reads a whole BO, in the same way.
fn get(guest: &mut Guest, bo: BoId) -> Result<Vec<u8>, String> {
    let bytes = guest.adapter.describe(bo).map_err(text)?.bytes;
    match guest.read(bo, 0, index(bytes)) {
        Err(Error::Fault) => {}
        result => return result.map_err(text),
    }
    let staging = guest.create(bytes, CreateFlags::READBACK).map_err(text)?;
    let fence = guest.adapter.copy(staging, 0, bo, 0, bytes).map_err(text)?;
    guest.wait(fence).map_err(text)?;
    let data = guest.read(staging, 0, index(bytes)).map_err(text);
    guest.adapter.destroy(staging).map_err(text)?;
    data
}

fn expect_bytes(what: &str, found: &[u8], wanted: &[u8]) -> Result<(), String> {
    let differs = found.iter().zip(wanted).position(|(f, w)| f != w);
    match differs {
        None if found.len() == wanted.len() => Ok(()),
        None => Err(format!(
            "{what}: {} bytes, expected {}",
            found.len(),
            wanted.len()
        )),
        Some(at) => Err(format!(
            "{what}: byte {at:#x} is {:#04x}, expected {:#04x}",
            found[at], wanted[at]
        )),
    }
}

/// Fills of every size, guard bytes on both sides unchanged.
fn fills(guest: &mut Guest, place: PlaceName) -> Outcome {
    for (n, bytes) in SIZES.into_iter().enumerate() {
        let pattern = 0xA5C3_0F01u32.wrapping_mul(u32::try_from(n).unwrap_or(0) + 3);
        let mut wanted = noise(bytes, GUARD + bytes + GUARD);
        let bo = made_of(guest, place, &wanted)?;
        let fence = guest
            .adapter
            .fill(bo, GUARD, bytes, pattern)
            .map_err(text)?;
        guest.wait(fence).map_err(text)?;
        for pixel in wanted[index(GUARD)..index(GUARD + bytes)].chunks_mut(4) {
            pixel.copy_from_slice(&pattern.to_le_bytes());
        }
        let found = get(guest, bo)?;
        expect_bytes(&format!("fill of {bytes} bytes"), &found, &wanted)?;
        guest.adapter.destroy(bo).map_err(text)?;
    }
    Ok(format!("{} sizes", SIZES.len()))
}

/// Copies of every size between two places; guards and the source unchanged.
fn copies(guest: &mut Guest, from: PlaceName, to: PlaceName) -> Outcome {
    for bytes in SIZES {
        let source = noise(bytes ^ 0x5151, 256 + bytes);
        let mut wanted = noise(bytes ^ 0x7272, GUARD + bytes + GUARD);
        let src = made_of(guest, from, &source)?;
        let dst = made_of(guest, to, &wanted)?;
        let fence = guest
            .adapter
            .copy(dst, GUARD, src, 256, bytes)
            .map_err(text)?;
        guest.wait(fence).map_err(text)?;
        wanted[index(GUARD)..index(GUARD + bytes)].copy_from_slice(&source[256..]);
        expect_bytes(
            &format!("copy of {bytes} bytes"),
            &get(guest, dst)?,
            &wanted,
        )?;
        expect_bytes("source", &get(guest, src)?, &source)?;
        for bo in [src, dst] {
            guest.adapter.destroy(bo).map_err(text)?;
        }
    }
    Ok(format!("{} sizes", SIZES.len()))
}

/// a new BO shows zeros where VRAM held something; what lies behind it
/// keeps what it held.
fn fresh_local(guest: &mut Guest, seed: u64) -> Outcome {
    let bytes = 5 * PAGE;
    // Far from what other checks used.
    let window = vidmm::Window {
        first_page: 4096,
        last_page: 8192,
    };
    let bo = guest
        .create_in(bytes, CreateFlags::GPU_MOSTLY, &[window])
        .map_err(text)?;
    let found = guest.read(bo, 0, index(bytes)).map_err(text)?;
    expect_bytes("fresh", &found, &vec![0; index(bytes)])?;
    let first = guest.adapter.describe(bo).map_err(text)?.start_page;
    for at in [first * PAGE - 8, first * PAGE + bytes] {
        let mut word = [0; 8];
        let read = guest.machine.vram().read(VramOffset(at), &mut word);
        read.map_err(|e| e.to_string())?;
        expect_bytes("behind it", &word, &Vram::pattern(seed, at).to_le_bytes())?;
    }
    guest.adapter.destroy(bo).map_err(text)?;
    Ok(format!("{bytes} bytes at page {first}"))
}

/// for RAM, read by the GPU before any CPU touch.
fn fresh_ram(guest: &mut Guest) -> Outcome {
    let bytes = 5 * PAGE;
    let bo = guest.create(bytes, CreateFlags::UPLOAD).map_err(text)?;
    let out = guest.create(bytes, CreateFlags::READBACK).map_err(text)?;
    guest.write(out, 0, &noise(1, bytes)).map_err(text)?;
    let fence = guest.adapter.copy(out, 0, bo, 0, bytes).map_err(text)?;
    guest.wait(fence).map_err(text)?;
    let found = guest.read(out, 0, index(bytes)).map_err(text)?;
    expect_bytes("fresh", &found, &vec![0; index(bytes)])?;
    for bo in [bo, out] {
        guest.adapter.destroy(bo).map_err(text)?;
    }
    Ok(format!("{bytes} bytes"))
}

/// The last-level entry of an address, as the model reads it.
fn pte(guest: &Guest, process_id: u8, va: GpuVa) -> Option<u32> {
    guest.machine.gpu(|gpu| gpu.walk(process_id, va)).l3
}

/// before the first touch the model reads the dummy page's entry, after
/// it the bound page's, for every process id; after the end the dummy's again.
fn first_touch(guest: &mut Guest, flags: CreateFlags) -> Outcome {
    let report = guest.report.reserved_vma.as_ref();
    let dummy = report.ok_or("no report")?.dummy_page;
    let entry = |page: BusAddr, snoop| {
        let number = u32::try_from(page.page()).unwrap_or(0);
        let entry = L3Entry::new()
            .with_valid(true)
            .with_ns(true)
            .with_snoop(snoop);
        Some(entry.with_page(number).into_bits())
    };
    let pages = 40;
    let bo = guest.create(pages * PAGE, flags).map_err(text)?;
    let first = guest.adapter.describe(bo).map_err(text)?.gpu_va;
    let all = |guest: &Guest, wanted: &dyn Fn(u64) -> Option<u32>, when: &str| {
        for n in 0..pages {
            for process_id in 0..16 {
                let found = pte(guest, process_id, first.add(n * PAGE));
                if found != wanted(n) {
                    return Err(format!(
                        "{when}: page {n} of {first} is {found:x?}, expected {:x?}",
                        wanted(n)
                    ));
                }
            }
        }
        Ok(())
    };
    all(guest, &|_| entry(dummy, true), "before")?;
    let mut frames = Vec::new();
    for page in 0..pages {
        frames.push(guest.touch(bo, page).map_err(text)?);
    }
    let scattered = frames
        .windows(2)
        .filter(|pair| pair[1] != pair[0] + 1)
        .count();
    if scattered < frames.len() / 2 {
        return Err("the pages are not scattered: this would prove little".into());
    }
    let snoop = flags == CreateFlags::READBACK;
    let bound = |n: u64| entry(BusAddr::from_page(frames[index(n)]), snoop);
    all(guest, &bound, "after the first touch")?;
    guest.adapter.destroy(bo).map_err(text)?;
    all(guest, &|_| entry(dummy, true), "after the end")?;
    Ok(format!(
        "{pages} pages for 16 process ids, {scattered} of them not neighbours"
    ))
}

/// Two small BOs share a TLB line. The second is bound after the GPU used the
/// first, when the line, dummy entries included, is in the TLB.
fn late_neighbour(guest: &mut Guest) -> Outcome {
    let one = guest.create(PAGE, CreateFlags::READBACK).map_err(text)?;
    let two = guest.create(PAGE, CreateFlags::READBACK).map_err(text)?;
    let far = guest.adapter.describe(one).map_err(text)?.gpu_va.0 >> 16;
    if guest.adapter.describe(two).map_err(text)?.gpu_va.0 >> 16 != far {
        return Err("they do not share 64 KiB: this would prove nothing".into());
    }
    for (bo, pattern) in [(one, 0x1111_1111u32), (two, 0x2222_2222)] {
        let fence = guest.adapter.fill(bo, 0, PAGE, pattern).map_err(text)?;
        guest.wait(fence).map_err(text)?;
    }
    let found = guest.read(two, 0, index(PAGE)).map_err(text)?;
    expect_bytes("the second", &found, &[0x22; 4096])?;
    for bo in [one, two] {
        guest.adapter.destroy(bo).map_err(text)?;
    }
    Ok("two pages in one TLB line".into())
}

/// A BO is destroyed and another takes its GPU address, with other pages.
fn reused_address(guest: &mut Guest) -> Outcome {
    let mut first = None;
    for round in 0..3u8 {
        let bo = guest.create(16 * PAGE, CreateFlags::UPLOAD).map_err(text)?;
        let va = guest.adapter.describe(bo).map_err(text)?.gpu_va;
        if *first.get_or_insert(va) != va {
            return Err("the address was not reused: this would prove nothing".into());
        }
        let pattern = u32::from_ne_bytes([round + 1; 4]);
        let fence = guest
            .adapter
            .fill(bo, 0, 16 * PAGE, pattern)
            .map_err(text)?;
        guest.wait(fence).map_err(text)?;
        let found = guest.read(bo, 0, index(16 * PAGE)).map_err(text)?;
        expect_bytes(
            &format!("round {round}"),
            &found,
            &vec![round + 1; found.len()],
        )?;
        guest.adapter.destroy(bo).map_err(text)?;
    }
    Ok("3 rounds".into())
}

fn fences(guest: &mut Guest) -> Outcome {
    guest.machine.run();
    let c = guest.timeline().counters();
    let found = format!("{c:?}, slept {} ns", guest.machine.slept_ns());
    let all = c.completed == c.submitted && c.submitted > 0 && c.interrupts > 0;
    let good = all && c.fallbacks == 0 && c.page_faults == 0 && guest.machine.slept_ns() == 0;
    if good { Ok(found) } else { Err(found) }
}

fn quiet(guest: &mut Guest) -> Outcome {
    let c = guest.machine.gpu(|gpu| gpu.counters());
    let violations = guest.machine.ram().violations();
    let log = guest.machine.log_lines();
    if c.faults + c.bus_errors + c.ring_errors == 0 && violations.is_empty() && log.is_empty() {
        Ok(format!(
            "{} bytes copied, {} filled",
            c.bytes_copied, c.bytes_filled
        ))
    } else {
        let first = violations.first();
        Err(format!(
            "{c:?}; {} DMA violations, first {first:?}; log {log:?}",
            violations.len()
        ))
    }
}
