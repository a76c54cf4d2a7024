//! The function loses its registers under a running driver, which goes on.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config, Gpu};
use presil_tests::{Guest, data_checks};
use vidmm::{BoId, CreateFlags, Error};

const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000_000_000;
const SEED: u64 = 0x00C0_FFEE;
const ALL: [CreateFlags; 4] = [
    CreateFlags::GPU_ONLY,
    CreateFlags::GPU_MOSTLY,
    CreateFlags::UPLOAD,
    CreateFlags::READBACK,
];

fn guest() -> Guest {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 64 * MIB, true).unwrap();
    config.vram_seed = Some(SEED);
    Guest::new(&config).unwrap()
}

fn reset(guest: &mut Guest) -> Result<(), Error> {
    guest.machine.gpu(Gpu::reset);
    guest.adapter.resume()
}

/// What the GPU finds in a BO.
fn word(guest: &mut Guest, bo: BoId) -> u32 {
    let out = guest.create(4096, CreateFlags::READBACK).unwrap();
    let fence = guest.call(|a| a.copy(out, 0, bo, 0, 4)).unwrap();
    guest.wait(fence).unwrap();
    let data = guest.read(out, 0, 4).unwrap();
    guest.adapter.destroy(out).unwrap();
    u32::from_le_bytes(data.try_into().unwrap())
}

#[test]
fn data_in_every_segment_survives_a_reset_and_the_gpu_works_as_before() {
    let mut guest = guest();
    let bos = ALL.map(|flags| guest.create(MIB, flags).unwrap());
    for (bo, pattern) in bos.iter().zip(1..) {
        let fence = guest.call(|a| a.fill(*bo, 0, MIB, pattern)).unwrap();
        guest.wait(fence).unwrap();
    }
    assert_eq!(guest.adapter.suspend(SECOND), Ok(()));
    assert_eq!(reset(&mut guest), Ok(()));
    for (bo, pattern) in bos.iter().zip(1..) {
        assert_eq!(word(&mut guest, *bo), pattern);
        guest.adapter.destroy(*bo).unwrap();
    }
    let bad: Vec<_> = data_checks(&mut guest, SEED)
        .into_iter()
        .filter(|check| !check.ok)
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(guest.timeline().counters().fallbacks, 0, "interrupts came");
    let machine = guest.unload().unwrap();
    assert_eq!(machine.ram().owned(), 0, "every page given back");
}

#[test]
fn fences_that_a_reset_cuts_off_end_in_an_error_and_only_those() {
    let mut guest = guest();
    let bo = guest.create(4096, CreateFlags::READBACK).unwrap();
    let done = guest.adapter.fill(bo, 0, 4096, 1).unwrap();
    guest.wait(done).unwrap();
    let gone = guest.create(4096, CreateFlags::READBACK).unwrap();
    let cut: Vec<u64> = (0..3)
        .map(|n| guest.adapter.fill(gone, 0, 4096, n).unwrap())
        .collect();
    let owned = guest.machine.ram().owned();
    guest.adapter.destroy(gone).unwrap();

    assert_eq!(reset(&mut guest), Ok(()));
    // With nothing to cut off the next one changes nothing.
    assert_eq!(reset(&mut guest), Ok(()));
    assert_eq!(guest.wait(done), Ok(()));
    for fence in cut {
        assert_eq!(guest.wait(fence), Err(Error::Canceled), "fence {fence}");
    }
    let after = guest.adapter.fill(bo, 0, 4096, 2).unwrap();
    assert_eq!(guest.wait(after), Ok(()));
    guest.adapter.reap();
    assert_eq!(
        guest.machine.ram().owned(),
        owned - 1,
        "nobody waits for a cut-off fence"
    );
}

#[test]
fn a_fresh_buffer_whose_clearing_was_cut_off_still_starts_as_zeros() {
    let mut guest = guest();
    let [shown, hidden] = [CreateFlags::GPU_MOSTLY, CreateFlags::GPU_ONLY]
        .map(|flags| guest.create(MIB, flags).unwrap());
    assert_eq!(reset(&mut guest), Ok(()));
    assert_eq!(
        guest.adapter.fault(shown, 0),
        Err(Error::Busy),
        "being cleared again"
    );
    guest.machine.run();
    assert!(
        guest
            .read(shown, 0, 4096)
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
    assert_eq!(word(&mut guest, hidden), 0);
}

#[test]
fn a_reset_brings_a_gpu_back_that_was_lost() {
    let mut guest = guest();
    let bo = guest.create(4096, CreateFlags::READBACK).unwrap();
    // Its doorbell is not answered.
    guest.adapter.fill(bo, 0, 4096, 1).unwrap();
    guest.machine.fail_call(Some(1));
    assert_eq!(guest.adapter.fill(bo, 0, 4096, 1), Err(Error::Lost));
    assert!(guest.timeline().is_lost());
    assert_eq!(guest.adapter.fill(bo, 0, 4096, 2), Err(Error::Lost));

    assert_eq!(guest.adapter.suspend(SECOND), Err(Error::Lost));
    assert_eq!(reset(&mut guest), Ok(()));
    let fence = guest.adapter.fill(bo, 0, 4096, 3).unwrap();
    assert_eq!(guest.wait(fence), Ok(()));
    assert_eq!(guest.read(bo, 0, 4).unwrap(), [3, 0, 0, 0]);
}

#[test]
fn wherever_coming_back_fails_the_gpu_is_lost_and_the_next_reset_brings_it_back() {
    for nth in 1.. {
        let mut guest = guest();
        let bo = guest.create(MIB, CreateFlags::GPU_MOSTLY).unwrap();
        guest.machine.fail_call(Some(nth));
        let came_back = reset(&mut guest);
        let failed = guest.machine.has_failed();
        guest.machine.fail_call(None);
        if !failed {
            assert!(nth > 3, "{nth}");
            assert_eq!(came_back, Ok(()));
            return;
        }
        assert!(came_back.is_err(), "call {nth}");
        let lost = guest.adapter.fault(bo, 0);
        assert_eq!(
            lost,
            Err(Error::Lost),
            "uncleared memory is not shown, call {nth}"
        );
        assert_eq!(reset(&mut guest), Ok(()), "call {nth}");
        guest.machine.run();
        assert!(
            guest
                .read(bo, 0, 4096)
                .unwrap()
                .iter()
                .all(|byte| *byte == 0)
        );
    }
}
