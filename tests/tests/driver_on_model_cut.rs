//! The bus is cut off for a moment: what is lost ends in an error, and everybody goes on.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config, OnFault};
use presil_tests::Guest;
use vidmm::{BoId, Client, CreateFlags, CreateRequest, Error};

const MIB: u64 = 1 << 20;
/// Two pieces: as much as goes on the ring.
const LARGE: u64 = 32 * MIB;
const SMALL: u64 = 65536;
const SECOND: u64 = 1_000_000_000;

fn guest(on_fault: OnFault) -> Guest {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 128 * MIB, true).unwrap();
    config.mmu.on_fault = on_fault;
    Guest::new(&config).unwrap()
}

/// How a client's job ends: waits in slices, and looks after what they leave to do,
/// as the kernel module does.
fn end(guest: &mut Guest, client: &Client, fence: u64) -> Result<(), Error> {
    for _ in 0..100 {
        let Some(ring) = guest.adapter.ask(client, fence)? else {
            return Ok(());
        };
        match guest.timeline().wait(ring, SECOND) {
            Ok(()) | Err(Error::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if guest.timeline().has_trouble() {
            guest.adapter.attend()?;
        }
        guest.adapter.advance();
    }
    Err(Error::TimedOut)
}

/// A buffer, cleared, and who made it.
fn client(guest: &mut Guest, bytes: u64, flags: CreateFlags) -> (Client, BoId) {
    let client = guest.adapter.open_client().unwrap();
    let request = CreateRequest {
        bytes,
        flags: flags.0,
        windows: &[],
    };
    let bo = guest.adapter.create_for(&client, &request).unwrap();
    guest.touch(bo, 0).unwrap();
    let fence = guest.adapter.jobs(&client).0;
    assert_eq!(end(guest, &client, fence), Ok(()));
    (client, bo)
}

fn words(guest: &mut Guest, bo: BoId, bytes: u64) -> Vec<u32> {
    let data = guest.read(bo, 0, usize::try_from(bytes).unwrap()).unwrap();
    let (words, _) = data.as_chunks();
    words.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

fn holds(guest: &mut Guest, bo: BoId, bytes: u64, pattern: u32) -> bool {
    words(guest, bo, bytes).iter().all(|word| *word == pattern)
}

#[test]
fn fences_that_are_lost_end_their_jobs_and_everybody_goes_on() {
    for on_fault in [OnFault::Report, OnFault::Halt, OnFault::Retry] {
        // Without bus master an MSI is lost, too.
        for mute in [false, true] {
            let case = format!("{on_fault:?}, interrupts lost: {mute}");
            let mut guest = guest(on_fault);
            let (a, large) = client(&mut guest, LARGE, CreateFlags::GPU_MOSTLY);
            let (b, small) = client(&mut guest, SMALL, CreateFlags::READBACK);
            let cut = guest.adapter.fill_for(&a, large, 0, LARGE, 0xA1).unwrap();
            let next = guest.adapter.fill_for(&b, small, 0, SMALL, 0xB1).unwrap();
            let last = guest.adapter.fill_for(&a, large, 0, LARGE, 0xA2).unwrap();
            guest.machine.set_bus_master(false);
            guest.machine.set_mute(mute);
            guest.machine.run();
            guest.machine.set_bus_master(true);
            guest.machine.set_mute(false);
            let slept = guest.machine.slept_ns();

            assert_eq!(end(&mut guest, &b, next), Ok(()), "{case}");
            assert_eq!(end(&mut guest, &a, cut), Err(Error::Io), "{case}");
            assert_eq!(end(&mut guest, &a, last), Ok(()), "{case}");
            assert!(holds(&mut guest, small, SMALL, 0xB1), "{case}");
            assert!(holds(&mut guest, large, LARGE, 0xA2), "{case}");
            let waited = guest.machine.slept_ns() - slept;
            let allowed = if mute { 2 * SECOND } else { 0 };
            assert!(waited <= allowed, "{case}: {waited} ns");
            assert_eq!(end(&mut guest, &a, cut), Err(Error::Io), "{case}, again");
            for bo in [large, small] {
                guest.adapter.destroy(bo).unwrap();
            }
            assert_eq!(guest.unload().unwrap().ram().owned(), 0, "{case}");
        }
    }
}

#[test]
fn what_was_at_work_behind_a_fence_that_is_lost_is_not_called_good() {
    let mut guest = guest(OnFault::Report);
    let (a, first) = client(&mut guest, SMALL, CreateFlags::GPU_MOSTLY);
    let (b, second) = client(&mut guest, SMALL, CreateFlags::READBACK);
    let one = guest.adapter.fill_for(&a, first, 0, 4, 0xA1).unwrap();
    let two = guest.adapter.fill_for(&b, second, 0, SMALL, 0xB1).unwrap();
    let errors = |guest: &Guest| guest.machine.gpu(|gpu| gpu.counters().bus_errors);
    let before = errors(&guest);
    guest.machine.set_bus_master(false);
    // The first one's fence, and something of the second job.
    while errors(&guest) < before + 2 {
        guest.machine.gpu(|gpu| gpu.step(1));
    }
    assert!(guest.machine.take_interrupt());
    guest.machine.set_bus_master(true);
    assert_eq!(end(&mut guest, &b, two), Err(Error::Io));
    assert_eq!(end(&mut guest, &a, one), Err(Error::Io));
    let found = words(&mut guest, second, SMALL);
    assert!(found.contains(&0) && found.contains(&0xB1), "a hole in it");
    let again = guest.adapter.fill_for(&b, second, 0, SMALL, 0xB2);
    assert_eq!(end(&mut guest, &b, again.unwrap()), Ok(()));
    assert!(holds(&mut guest, second, SMALL, 0xB2));
}

#[test]
fn jobs_end_also_while_the_bus_stays_cut_off() {
    let mut guest = guest(OnFault::Report);
    let (a, large) = client(&mut guest, LARGE, CreateFlags::GPU_MOSTLY);
    let (b, small) = client(&mut guest, SMALL, CreateFlags::READBACK);
    guest.machine.set_bus_master(false);
    guest.machine.set_mute(true);
    for round in 0..3 {
        let long = guest.adapter.fill_for(&a, large, 0, LARGE, round).unwrap();
        let short = guest.adapter.fill_for(&b, small, 0, SMALL, round).unwrap();
        assert_eq!(end(&mut guest, &a, long), Err(Error::Io), "{round}");
        assert_eq!(end(&mut guest, &b, short), Err(Error::Io), "{round}");
    }
    guest.machine.set_bus_master(true);
    guest.machine.set_mute(false);
    let fence = guest.adapter.fill_for(&b, small, 0, SMALL, 7).unwrap();
    assert_eq!(end(&mut guest, &b, fence), Ok(()));
    assert!(holds(&mut guest, small, SMALL, 7));
}
